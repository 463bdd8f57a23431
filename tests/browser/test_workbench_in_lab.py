"""The workbench in a real JupyterLab, by mouse and keyboard, and twenty steps of somebody who presses anything."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from tests.widgets.conftest import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "07_workbench.ipynb"
MEMORY = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS')) // 1024"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A log with hostile titles, and two small systems trained on it: their folders."""
    import seqlab
    from seqlab import datasets, models
    from seqlab.optimization.options import Options

    numbers = np.random.default_rng(0)
    rows = [
        (f"c{user:03d}", f"s{(user % 3) * 20 + item:02d}", 1.6e9 + 86_400 * step + user)
        for user in range(120)
        for step, item in enumerate(numbers.geometric(0.12, numbers.integers(8, 25)).clip(max=19))
    ]
    home = tmp_path_factory.mktemp("log")
    folder = home / "shop"
    folder.mkdir()
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    events.to_csv(folder / "interactions.tsv", sep="\t", index=False)
    items = pd.DataFrame({"item_id": sorted(set(events["item_id"]))})
    hostile = [re.sub(r"[\n\t]", " ", title) for title in HOSTILE.values()]
    items["title"] = [
        hostile[at] if at < len(hostile) else f"<img src=x onerror=alert(1)>Thing {name}"
        for at, name in enumerate(items["item_id"])
    ]
    items["aisle"] = "aisle " + items["item_id"].str[1]
    items.to_csv(folder / "items.tsv", sep="\t", index=False)
    split = datasets.leave_one_out(datasets.load(folder))
    folders = []
    for system, settings in (
        ("sasrec", {"dim": 16, "layers": 1, "max_length": 12}),
        ("tiger", {"dim": 16, "layers": 1, "max_length": 8, "levels": [4, 8, 64]}),
    ):
        folders.append(str(home / "runs" / system))
        seqlab.fit(models.create(system, split, settings, 0), split, Options(epochs=2, tokens=256), folders[-1])
    return folder, folders


@pytest.fixture
def copy(tmp_path: Path, shop):
    """The notebook with other parameters, and cells after its own."""

    def write(*cells: str, **parameters: object) -> Path:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        for key, value in {"dataset": str(shop[0]), "runs": shop[1], **parameters}.items():
            assert re.search(rf"(?m)^{key} = ", cell.source), key
            cell.source = re.sub(rf"(?m)^{key} = .*$", lambda _, line=f"{key} = {value!r}": line, cell.source)
        notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
        path = tmp_path / "07_workbench.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def test_the_workbench_by_mouse_and_by_keyboard(lab, copy, tmp_path) -> None:
    from playwright.sync_api import expect

    with lab.notebook(copy(), width=1200, height=2600) as opened:
        opened.run_all()
        page = opened.page
        bench = opened.panel.locator(".seqlab-workbench")
        status, heading = bench.get_by_role("status"), bench.locator("h3[role=status]")
        expect(heading).to_contain_text("User c", timeout=60_000)
        opened.shot("workbench")

        # a user from the list, which makes room, and back again
        first = heading.inner_text()
        listed = bench.locator(".seqlab-chooser .widget-select select").first
        listed.select_option(index=3)
        expect(heading).not_to_have_text(first)
        expect(status.first).to_contain_text("seen before the test query")
        choose = bench.get_by_role("button", name="Choose users or items")
        expect(listed).to_be_hidden()
        expect(choose).to_be_focused()
        bench.get_by_role("button", name="Undo selection").press("Enter")
        expect(heading).to_have_text(first)
        choose.press("Enter")
        listed.focus()
        listed.press("ArrowDown")
        expect(heading).not_to_have_text(first)
        second = heading.inner_text()
        bench.get_by_role("button", name="Next user").press("Enter")
        expect(heading).not_to_have_text(second)

        # an edit is one for all runs, and its effect is on the screen with the button
        page.set_viewport_size({"width": 1280, "height": 800})
        history = bench.locator(".seqlab-panel", has_text="History, oldest first").last
        events = history.locator(".widget-select select").first
        count = events.locator("option").count()
        heading.scroll_into_view_if_needed()
        history.get_by_role("button", name="Drop").click()
        expect(events.locator("option")).to_have_count(count - 1)
        expect(heading).to_contain_text("edited")
        opened.idle()
        lists = history.locator(".seqlab-lists").first.locator("table")
        expect(lists).to_have_count(2)
        for at in range(2):
            expect(lists.nth(at)).to_be_in_viewport(ratio=1)
        expect(history.get_by_role("button", name="Drop")).to_be_in_viewport(ratio=1)
        page.set_viewport_size({"width": 1200, "height": 2600})
        opened.shot("workbench_edited")

        # the queries
        for question, answer in (("What would change", "Take it out"), ("Patching", "other")):
            bench.get_by_role("button", name=question).click()
            expect(bench.get_by_text(answer).first).to_be_visible(timeout=60_000)
        opened.idle()
        opened.shot("workbench_patching")

        # the tabs, by keyboard
        for tab, shown in (
            ("Attention and memory", "The attention of the last event"),
            ("Decoding", "without a search"),
            ("Neighbours", "Nearest to"),
            ("Other views", "What is recommended after each reasoning step"),
        ):
            bench.get_by_role("button", name=tab, exact=True).press("Enter")
            expect(bench.get_by_text(shown).locator("visible=true").first).to_be_visible(timeout=60_000)
            opened.idle()
            page.wait_for_timeout(500)
            opened.shot(f"workbench_{tab.split()[0].lower()}")
        bench.get_by_role("button", name="History editor").press("Enter")

        # somebody typed in, who is refused first
        box = history.get_by_placeholder("or type a history")
        box.fill("s45\nnothing of that name")
        read = history.get_by_role("button", name="Read these")
        read.click()
        expect(history.get_by_role("alert")).to_contain_text("is not an id or part of a title")
        assert 0 < history.get_by_role("alert").bounding_box()["y"] - read.bounding_box()["y"] < 60  # beside the button
        box.fill("s45\ns46\ns47")
        history.get_by_role("button", name="Read these").press("Enter")
        expect(heading).to_contain_text("(typed in): 3 events")
        expect(events.locator("option")).to_have_count(3)

        # a branch of codes selects its items and their users
        choose.press("Enter")
        branches = bench.locator(".seqlab-panel", has_text="One code back").last.locator("select").first
        branches.focus()
        branches.press("ArrowDown")
        expect(status.first).to_contain_text("of branch (")
        listed.select_option(index=0)
        expect(status.first).to_contain_text("seen before the test query")
        expect(heading).not_to_contain_text("typed")

        # what is pinned is what is shown
        name = bench.locator(".widget-text", has_text="file").locator("input")
        name.fill(str(tmp_path / "mine.json"))
        name.press("Tab")
        bench.get_by_role("button", name="Pin this view").press("Enter")
        expect(bench.get_by_text("seqlab report").last).to_be_visible()
        pinned = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["parameters"]
        assert pinned["tab"] == "History editor"
        assert f"User {pinned['user']}:" in heading.inner_text()
        assert pinned["selection"] == {"users": [pinned["user"]]}

        # other runs from the toolbar
        bench.get_by_role("button", name="Change runs").press("Enter")
        second = bench.locator(".widget-dropdown", has_text="second run").locator("select")
        second.select_option(label="none")
        bench.get_by_role("button", name="Open these runs").press("Enter")
        expect(bench.get_by_role("button", name="Decoding", exact=True)).to_be_hidden(timeout=60_000)
        opened.idle()
        expect(bench.get_by_text("One code back")).to_have_count(0)
        expect(heading).to_contain_text(f"User {pinned['user']}")
        expect(bench.get_by_role("alert")).to_have_count(0)
        opened.no_mishaps()


STEPS = 20
REACHED = """(bench) => [...bench.querySelectorAll("button, select, input, textarea, .noUi-handle, .nsewdrag")]
  .filter((one) => !one.disabled && one.getClientRects().length && one.checkVisibility({ visibilityProperty: true })
    && !one.closest(".modebar") && !(one.value || "").endsWith(".json")
    && !/Pin this|UMAP/.test(one.innerText || ""))"""
"""What a person could press, but for the pin, which would write files, plotly's buttons on a figure, and UMAP, which
compiles for a quarter of a minute and keeps 300 MB that look like a leak."""

TYPED = ("", "s4", "s45\ns46", "<b>nobody</b>", "שלום", "🦊", "9" * 300, "a\tb;c")


def poke(page: object, control: object, dice: random.Random) -> str:
    """Do something to a control that a person could do; what was done, in words."""
    kind = control.evaluate("(one) => one.tagName + '.' + one.className")
    control.scroll_into_view_if_needed(timeout=5_000)
    if kind.startswith("SELECT"):
        count = control.evaluate("(one) => one.options.length")
        if not count:
            return f"{kind}: empty"
        if dice.random() < 0.5:
            at = dice.randrange(count)
            control.select_option(index=at)
            return f"{kind}: option {at}"
        control.focus()
        key = dice.choice(["ArrowDown", "ArrowUp", "End", "d"])
        page.keyboard.press(key)
        return f"{kind}: {key}"
    if kind.startswith(("INPUT", "TEXTAREA")):
        words = dice.choice(TYPED)
        control.fill(words)
        page.keyboard.press(dice.choice(["Enter", "Tab"]))
        return f"{kind}: {words[:20]!r}"
    if "noUi" in kind:
        control.focus()
        key = dice.choice(["ArrowLeft", "ArrowRight"])
        page.keyboard.press(key)
        return f"{kind}: {key}"
    if kind.startswith("BUTTON"):
        name = control.inner_text()
        if dice.random() < 0.5:
            control.focus()
            page.keyboard.press("Enter")
        else:
            control.click(timeout=5_000)
        return f"button {name!r}"
    box = control.bounding_box()
    page.mouse.click(box["x"] + box["width"] * dice.random(), box["y"] + box["height"] * dice.random())
    return "a click on a figure"


def test_twenty_steps_of_somebody_who_presses_anything(lab, copy) -> None:
    from playwright.sync_api import Error, expect

    dice, done, memory = random.Random(7), [], []
    with lab.notebook(copy("import gc\ngc.collect()\n" + MEMORY), width=1200, height=2600) as opened:
        opened.run_all()
        page = opened.page
        bench = opened.panel.locator(".seqlab-workbench")
        expect(bench.locator("h3[role=status]")).to_contain_text("User c", timeout=60_000)
        counter = opened.panel.locator(".jp-CodeCell").last

        def kernel_memory() -> int:
            page.evaluate(
                """() => { const { content } = window.jupyterapp.shell.currentWidget;
                content.activeCellIndex = content.widgets.length - 1;
                return window.jupyterapp.commands.execute('notebook:run-cell'); }"""
            )
            opened.idle()
            return int(counter.locator(".jp-OutputArea-output").last.inner_text())

        for step in range(STEPS):
            controls = page.evaluate_handle(REACHED, bench.element_handle())
            count = page.evaluate("(all) => all.length", controls)
            control = page.evaluate_handle("([all, at]) => all[at]", [controls, dice.randrange(count)]).as_element()
            try:
                done.append(poke(page, control, dice))
            except Error as error:  # it was covered, or gone before it could be reached
                done.append(f"not reached: {str(error).splitlines()[0]}")
            opened.idle(120)
            assert not opened.opened.dialogs, done
            for line in bench.get_by_role("alert").all_inner_texts():
                assert not re.search(r"Error|Traceback|NoneType|object has no|not subscriptable", line), (line, done)
            if step in (STEPS // 2 - 1, STEPS - 1):
                memory.append(kernel_memory())
        opened.shot("workbench_monkey")
        print(
            f"\nkernel memory half way and at the end: {memory} MB; not reached: {sum('not r' in one for one in done)}"
        )
        print("\n".join(done))
        failed = opened.panel.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
        assert failed.count() == 0, (failed.first.inner_text(), done)
        assert sum("not reached" in one for one in done) < STEPS // 4, done
        assert memory[1] < memory[0] + 150, memory
        opened.no_mishaps()
