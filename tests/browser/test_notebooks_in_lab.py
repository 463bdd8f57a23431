"""The notebooks' widgets in a real JupyterLab, driven with mouse and keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log with a title that would like to be a script; people buy at odd hours, two things at a time."""
    random = np.random.default_rng(0)
    rows = [
        (f"c{user:03d}", f"s{user % 3 * 20 + item:02d}", 1.6e9 + 86_400 * step + 977 * (step**2 % 61) + user, step // 2)
        for user in range(120)
        for step, item in enumerate(random.geometric(0.12, random.integers(8, 25)).clip(max=19))
    ]
    folder = tmp_path_factory.mktemp("log") / "shop"
    folder.mkdir()
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "basket"])
    events.to_csv(folder / "interactions.tsv", sep="\t", index=False)
    items = pd.DataFrame({"item_id": sorted(set(events["item_id"]))})
    kinds = ["red cheese", "blue milk", "green tea", "old bread"]
    number = items["item_id"].str[1:].astype(int)
    items["title"] = "<img src=x onerror=alert(1)>Thing " + items["item_id"] + number.map(lambda n: f" {kinds[n % 4]}")
    items["aisle"] = "aisle " + items["item_id"].str[1]
    items["category"] = items["title"].str.rpartition(" ")[2]
    items.to_csv(folder / "items.tsv", sep="\t", index=False)
    return folder


@pytest.fixture
def with_parameters(tmp_path: Path, shop: Path):
    """A copy of a curated notebook with other parameters."""

    def copy(name: str, **parameters: object) -> Path:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        if "epochs" not in parameters and re.search(r"(?m)^epochs = ", cell.source):
            parameters["epochs"] = 1
        for key, value in {"dataset": str(shop), **parameters}.items():
            assert re.search(rf"(?m)^{key} = ", cell.source), key
            cell.source = re.sub(rf"(?m)^{key} = .*$", lambda _, line=f"{key} = {value!r}": line, cell.source)
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    return copy


def output_with(opened, text: str):
    """The output area of the widget that shows this text."""
    return (
        opened.panel.locator(".jp-Cell-outputWrapper")
        .filter(has_text=text)
        .filter(has=opened.page.locator(".widget-button, .widget-dropdown, .widget-select"))
    )


def widget_with(opened, text: str):
    """The widget that shows this text, where a cell shows several."""
    return opened.panel.locator(".jp-OutputArea-child", has=opened.page.locator(".seqlab-panel")).filter(has_text=text)


def test_users_are_browsed(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    with lab.notebook(with_parameters("00_start_here")) as opened:
        opened.run_all()
        browser = output_with(opened, "What came next").first
        card = browser.locator(".card")
        first = card.inner_text()
        browser.get_by_role("button", name="Next").click()
        expect(card).not_to_have_text(first)
        slider = browser.locator(".noUi-handle")
        slider.focus()
        slider.press("ArrowLeft")
        expect(card.locator("h4")).to_have_text(first.splitlines()[0])
        expect(card).to_contain_text("<img src=x")
        opened.shot("00_users")
        opened.no_mishaps()


def test_the_map_is_recoloured_and_an_item_found_by_keyboard(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    with lab.notebook(with_parameters("02_item_map")) as opened:
        opened.run_all()
        item_map = output_with(opened, "UMAP").first
        expect(item_map.locator(".legendtext").first).to_have_text(re.compile("aisle"), timeout=30_000)
        item_map.locator(".widget-dropdown select").select_option(label="training events")
        expect(item_map.locator(".colorbar, .cbtitle").first).to_be_visible()
        search = item_map.get_by_placeholder("part of a title")
        search.fill("thing s2")
        search.press("Tab")
        expect(item_map.locator(".widget-select option").first).to_contain_text("Thing s2")
        listed = item_map.locator(".widget-select select")
        listed.focus()
        listed.press("ArrowDown")
        near = item_map.locator(".widget-html .sl")
        expect(near).to_contain_text("by cosine")
        expect(near.locator("tr")).to_have_count(10)
        opened.shot("02_item_map")
        opened.no_mishaps()


def test_who_is_pressed_in_the_table_of_systems_is_shown_below(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    systems = {"sasrec": {"dim": 16, "layers": 1, "max_length": 6}}
    path = with_parameters("08_compare_systems", systems=systems, seeds=[0], floors=["popularity"])
    with lab.notebook(path, width=1300) as opened:
        opened.run_all()
        table = opened.panel.locator(".jp-OutputArea", has=opened.page.locator(".cmp")).first
        browser = output_with(opened, "Pick a user in the list").first
        expect(browser).to_be_visible(timeout=30_000)
        browser_card = opened.panel.locator(".card")
        expect(browser_card).to_have_count(0)
        table.get_by_role("button", name=re.compile("^ndcg@10 of sasrec")).first.click()
        table.get_by_role("button", name=re.compile("^the users of")).first.click()
        table.locator("button[data-press='user:0']").click()
        name = table.locator("button[data-press='user:0']").inner_text()
        expect(browser_card.locator("h4")).to_have_text(re.compile(rf"User {re.escape(name)}"), timeout=30_000)
        expect(opened.panel.get_by_role("status").filter(has_text=f"User {name}:").last).to_be_visible(timeout=30_000)
        opened.shot("08_person", full_page=False)
        browser_card.scroll_into_view_if_needed()
        opened.shot("08_person")
        opened.no_mishaps()


def test_attention_memories_and_the_history_editor(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    systems = {
        "systems": ["sasrec", "gru4rec"],
        "settings": {"sasrec": {"dim": 16, "max_length": 8}, "gru4rec": {"max_length": 8}},
    }
    with lab.notebook(with_parameters("03_attention_and_memory", **systems)) as opened:
        opened.run_all()
        view = widget_with(opened, "The attention of the last event").first
        caption = view.locator(".widget-html", has_text="the top item is")
        before = caption.inner_text()
        plot = view.locator(".js-plotly-plot")
        expect(plot.locator(".main-svg").first).to_be_visible(timeout=30_000)
        wide = "([plot, room]) => plot.getBoundingClientRect().width > 0.9 * room.getBoundingClientRect().width"
        handles = [plot.locator(".main-svg").first.element_handle(), view.locator(".seqlab-panel").element_handle()]
        opened.page.wait_for_function(wide, arg=handles)  # a live figure takes the width there is
        image = plot.locator(".heatmaplayer image").get_attribute("href") if plot.locator("image").count() else ""
        head = view.locator(".noUi-handle").nth(1)
        head.focus()
        head.press("ArrowRight")
        if image:
            expect(plot.locator(".heatmaplayer image")).not_to_have_attribute("href", image)
        view.locator(".widget-dropdown select").select_option(index=2)
        expect(caption).not_to_have_text(before)
        name = view.locator(".widget-dropdown select option:checked").inner_text()
        chosen = widget_with(opened, "next came").first
        expect(chosen.get_by_role("status")).to_contain_text(f"User {name}:")
        expect(chosen.get_by_role("combobox")).to_have_value(name)
        others = widget_with(opened, "History, oldest first")
        for editor in (others.first, others.last):  # the last views of the notebook follow too
            expect(editor).to_contain_text(f"User {name}", timeout=30_000)
        opened.shot("03_attention")

        lens = widget_with(opened, "Press an item to watch it").first
        item = lens.locator("button.item").last
        title = item.locator(".words").inner_text()
        item.click()
        expect(lens.locator(".widget-html", has_text="is the watched item")).to_contain_text(title, timeout=30_000)
        expect(lens.locator("button.item.watched, button.item.final").last).to_be_visible()
        lens.locator(".noUi-handle").press("ArrowLeft")
        expect(lens.locator(".widget-html", has_text="is what came next")).to_be_visible(timeout=30_000)
        parts = widget_with(opened, "and not").first
        parts.locator(".widget-dropdown select").nth(2).select_option(index=2)
        expect(parts.get_by_text("The difference of their logits")).to_be_visible(timeout=30_000)
        opened.shot("03_layers")

        editor = widget_with(opened, "History, oldest first").first
        history = editor.locator(".widget-select select").first
        history.focus()
        history.press("ArrowUp")  # JupyterLab would take this, and dd, for commands of its own
        history.press("d")
        history.press("d")
        count = history.locator("option").count()
        chosen = history.locator("option:checked").inner_text()
        assert chosen.startswith(f"{count - 1}.")
        editor.get_by_role("button", name="Drop").click()
        expect(history.locator("option")).to_have_count(count - 1)
        expect(editor).to_contain_text("1 edit;")
        drop = editor.get_by_role("button", name="Undo")
        drop.focus()
        drop.press("Enter")
        expect(history.locator("option")).to_have_count(count)
        editor.get_by_role("button", name="Undo").click()
        expect(editor.get_by_role("alert")).to_contain_text("nothing to undo")
        editor.get_by_role("button", name="Add").click()
        expect(editor.get_by_role("alert")).to_contain_text("Choose an item")
        search = editor.get_by_placeholder("part of a title")
        search.fill("thing s0")
        search.press("Tab")
        editor.locator(".widget-select select").nth(1).select_option(index=0)
        editor.get_by_role("button", name="Add").click()
        expect(history.locator("option")).to_have_count(count + 1)
        expect(editor.get_by_role("alert")).to_have_count(0)
        opened.shot("03_history_editor")
        opened.no_mishaps()


def test_a_branch_of_codes_is_opened_and_an_item_found(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    small = {"levels": 2, "codes": 6}
    parameters = {"settings": small, "other": "random_codes", "other_settings": small}
    with lab.notebook(with_parameters("04_semantic_id_codebooks", **parameters), width=1300) as opened:
        opened.run_all()
        tree = output_with(opened, "One code back").first
        expect(tree).to_contain_text("All ", timeout=60_000)
        tree.scroll_into_view_if_needed()
        tree.locator("button.branch").first.click()
        expect(tree).to_contain_text("whose code begins", timeout=30_000)
        tree.get_by_role("button", name="One code back").click()
        expect(tree).to_contain_text("All ", timeout=30_000)
        listed = tree.locator(".widget-select select").first
        listed.focus()
        listed.press("ArrowDown")
        expect(tree).to_contain_text("whose code begins", timeout=30_000)
        search = tree.get_by_placeholder("part of a title")
        search.fill("thing s2")
        search.press("Tab")
        tree.locator(".widget-select select").nth(1).select_option(index=0)
        expect(tree).to_contain_text("longest common prefix", timeout=30_000)
        opened.shot("04_code_tree")
        opened.no_mishaps()


def test_a_beam_is_followed_step_by_step(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    settings = {"dim": 16, "layers": 1, "max_length": 8, "levels": [8, 8, 16]}
    with lab.notebook(with_parameters("05_beam_search_step_by_step", settings=settings, width=3), width=1300) as opened:
        opened.run_all()
        beams = output_with(opened, "width W").first
        plot = beams.locator(".js-plotly-plot")
        expect(plot).to_contain_text("step 3", timeout=60_000)
        slider = beams.locator(".noUi-handle").first
        slider.focus()
        slider.press("ArrowLeft")
        expect(plot).not_to_contain_text("step 3", timeout=30_000)
        slider.press("ArrowRight")
        expect(plot).to_contain_text("step 3", timeout=30_000)
        beams.locator(".widget-dropdown select").select_option(index=2)
        search = beams.get_by_placeholder("part of a title")
        search.fill("thing s2")
        search.press("Tab")
        beams.locator(".widget-select select").select_option(index=1)
        expect(beams).to_contain_text("without a search in", timeout=30_000)
        opened.shot("05_beam_steps")
        opened.no_mishaps()


def test_thoughts_are_watched_stopped_and_patched(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    settings = {"dim": 16, "layers": 1, "max_length": 8, "steps": 2}
    with lab.notebook(with_parameters("06_latent_reasoning", settings=settings, epsilon=1e-9), width=1300) as opened:
        opened.run_all()
        steps = output_with(opened, "stop below").first
        plot = steps.locator(".js-plotly-plot")
        expect(plot).to_contain_text("at step 2, where it stops", timeout=60_000)
        expect(plot).to_contain_text("All users stop below 1e-09: 2.00 steps")
        given, threshold = steps.locator(".noUi-handle"), steps.locator(".widget-inline-hbox", has_text="stop below")
        given.first.focus()
        given.first.press("ArrowLeft")
        expect(plot).to_contain_text("at step 1, where it stops", timeout=30_000)
        expect(steps).not_to_contain_text("Step 2: the next item")
        given.first.press("ArrowRight")
        expect(steps).to_contain_text("Step 2: the next item", timeout=30_000)
        handle = threshold.locator(".noUi-handle, input").first
        handle.focus()
        handle.press("End")
        expect(plot).to_contain_text(": 1.00 steps", timeout=30_000)
        lists = steps.locator(".widget-dropdown select")
        lists.nth(2).select_option(index=4)
        lists.nth(1).select_option(label="step 1")
        expect(steps).to_contain_text("with the state of step 1 taken from user", timeout=30_000)
        expect(plot).to_contain_text("the way after the patch", timeout=30_000)
        opened.shot("06_reasoning_steps")
        lists.first.select_option(index=2)
        expect(steps.get_by_role("alert")).to_have_count(0)
        opened.no_mishaps()


def test_intensities_follow_the_week_and_the_last_wait(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    settings = {"dim": 8, "components": 2, "users": 16}
    with lab.notebook(with_parameters("09_event_time", settings=settings), width=1300) as opened:
        opened.run_all()
        weeks = output_with(opened, "14 days to").first
        caption = weeks.locator(".annotation-text").filter(has_text="User")
        expect(caption.first).to_be_visible(timeout=60_000)
        first = caption.first.text_content()
        handle = weeks.locator(".noUi-handle").first
        handle.focus()
        handle.press("ArrowLeft")
        expect(caption.first).not_to_have_text(first, timeout=30_000)
        opened.shot("09_intensity")
        weeks.locator(".widget-dropdown select").select_option(index=3)
        expect(caption.first).not_to_contain_text(first.split(",")[0], timeout=30_000)
        after = output_with(opened, "wait × ÷").first
        expect(after.locator(".legendtext").filter(has_text="10 × longer")).to_be_visible(timeout=30_000)
        factor = after.locator(".noUi-handle").nth(1)
        factor.focus()
        factor.press("ArrowLeft")
        expect(after.locator(".legendtext").filter(has_text="10 × longer")).to_have_count(0, timeout=30_000)
        event = after.locator(".noUi-handle").first
        event.focus()
        event.press("ArrowLeft")
        expect(after.get_by_role("alert")).to_have_count(0)
        opened.shot("09_after_event")
        opened.no_mishaps()


def test_relatives_of_an_item_are_listed_and_candidates_watched(lab, with_parameters) -> None:
    from playwright.sync_api import expect

    parameters = {
        "item": "", "kind": "category", "group": "aisle", "held_out": "by-time 2020-09-20 2020-09-23",
        "click_settings": {"max_length": 8, "top_k": 3, "hidden": [16]}, "click_epochs": 1, "shoppers": 30,
    }  # fmt: skip
    with lab.notebook(with_parameters("10_baskets_and_slates", **parameters), width=1300) as opened:
        opened.run_all()
        related = output_with(opened, "goes with it").first
        plot = related.locator(".js-plotly-plot")
        expect(plot.locator(".legendtext").filter(has_text="the same category")).to_be_visible(timeout=60_000)
        search = related.get_by_placeholder("part of a title")
        search.fill("thing s2")
        search.press("Tab")
        listed = related.locator(".widget-select select")
        listed.focus()
        listed.press("ArrowDown")
        expect(related.locator(".widget-html h4").first).to_contain_text("Thing s2", timeout=30_000)
        expect(plot.locator(".annotation-text")).to_contain_text("Thing s2", timeout=30_000)
        expect(related.get_by_text("Thing s").first).to_contain_text("<img src=x")
        opened.shot("10_related_items")
        watched = output_with(opened, "no. 1").first
        words = watched.locator(".annotation-text").filter(has_text="User")
        first = words.first.text_content()
        watched.locator(".widget-dropdown select").select_option(index=2)
        expect(words.first).not_to_have_text(first, timeout=30_000)
        expect(watched.get_by_role("alert")).to_have_count(0)
        opened.shot("10_candidate_attention")
        opened.no_mishaps()
