"""The notebooks: clean in git, short in code, and whole when run."""

import ast
import collections
import importlib
import io
import json
import re
import shutil
import tokenize
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from seqlab import models, widgets
from seqlab.reports.parameters import check
from seqlab.reports.render import render
from tests.synthetic import small

pytestmark = pytest.mark.usefixtures("warm_reports")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK = {
    "00_start_here": {"epochs": 1, "users": 3},
    "01_look_at_the_data": {"examples": 3},
    "02_item_map": {"epochs": 1},
    "03_attention_and_memory": {
        "epochs": 1,
        "settings": {name: small(name, max_length=6) for name in ("sasrec", "gru4rec", "bert4rec")},
    },
    "04_semantic_id_codebooks": {
        "settings": {"levels": 2, "codes": 6},
        "other_settings": {"levels": 2, "codes": 6, "epochs": 3},
    },
    "05_beam_search_step_by_step": {
        "settings": small("tiger", levels=[8, 8, 64]),
        "other": "tiger",
        "other_settings": small("tiger", levels=[8, 8, 64], tokenizer="random_codes"),
        "epochs": 1,
        "width": 3,
    },
    "06_latent_reasoning": {
        "settings": small("rearec", steps=2),
        "control_settings": small("sasrec"),
        "epochs": 1,
    },
    "07_workbench": {},  # of small runs
    "08_compare_systems": {
        "systems": {"sasrec": small("sasrec", max_length=6)},
        "seeds": [0, 1],
        "epochs": 1,
        "users": 3,
    },
    "09_event_time": {"settings": small("neural_tpp"), "epochs": 1},
    "10_baskets_and_slates": {
        "epochs": 1,
        "item": "",
        "kind": "shelf",
        "group": "aisle",
        "held_out": "by-time 2020-09-20 2020-09-23",
        "click_settings": {"max_length": 8, "top_k": 3, "hidden": [16]},
        "click_epochs": 1,
        "shoppers": 40,
    },
    "13_trust": {"systems": {"sasrec": small("sasrec"), "markov": {}}, "epochs": 1, "users": 100},
    "90_report_system": {"users": 3, "views": ["HistoryEditor", "BeamSteps"]},  # of a small run
    "91_report_codebook": {},  # its defaults, of more codes than items
    "92_report_reasoning": {"settings": small("rearec"), "epochs": 1},
    "93_report_study": {
        "systems": ["sasrec:dim=16:layers=1:max_length=8:epochs=1", "sasrec:dim=32:layers=1:max_length=8:epochs=1"],
        "settings": {"users": 80, "listed": 40, "passes": 2, "hints": 40},
    },
}


SHOWN = {  # figures, and tables or cards, in the report: stills included
    "00_start_here": (5, 1),
    "01_look_at_the_data": (4, 2),
    "02_item_map": (2, 1),
    "03_attention_and_memory": (7, 5),
    "04_semantic_id_codebooks": (7, 5),
    "05_beam_search_step_by_step": (3, 4),
    "06_latent_reasoning": (5, 5),
    "07_workbench": (1, 1),
    "08_compare_systems": (3, 6),
    "09_event_time": (8, 2),
    "10_baskets_and_slates": (11, 2),
    "13_trust": (3, 7),
    "90_report_system": (5, 7),
    "91_report_codebook": (3, 8),
    "92_report_reasoning": (7, 6),
    "93_report_study": (2, 11),
}


def sources(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


every = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def test_the_curated_set_is_there_and_each_has_quick_parameters():
    assert {path.stem for path in NOTEBOOKS} == set(QUICK)


@pytest.mark.parametrize("family", sorted({models.family(name) for name in models.names()}))
def test_every_family_has_a_notebook_that_shows_a_system_of_it(family):
    """Those that the docstring of its folder names by number."""
    docstring = importlib.import_module(f"seqlab.models.{family}").__doc__
    numbers = re.findall(r"\b\d\d\b", docstring.partition("Notebook")[2])
    shown = [path.read_text(encoding="utf-8") for path in NOTEBOOKS if path.stem[:2] in numbers]
    assert len(shown) == len(numbers) > 0
    members = [name for name in models.names() if models.family(name) == family]
    assert any(re.search(rf"\b{name}\b", source) for name in members for source in shown)


def test_any_system_may_be_reported_on():
    notebook, _ = sources(FOLDER / "90_report_system.ipynb")
    for name in models.names():
        assert check(notebook, {"system": name, "settings": json.dumps(small(name))})["system"] == name


@every
def test_no_output_is_committed_and_any_python_runs_it(path):
    notebook, cells = sources(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert not [cell for cell in cells if cell.outputs or cell.execution_count is not None]


@every
def test_the_first_code_cell_alone_holds_parameters_each_a_literal_with_its_meaning(path):
    _, cells = sources(path)
    tagged = [index for index, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [0]
    source = cells[0].source
    lines = [line for line in source.splitlines() if line.strip()]
    body = ast.parse(source).body
    assert len(body) == len(lines)  # one a line
    for statement in body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    ]
    assert len(comments) == len(lines)


@every
def test_the_last_cell_records_results(path):
    _, cells = sources(path)
    assert "seqlab.record(" in cells[-1].source


@every
def test_each_notebook_begins_with_a_title_and_explains_its_cells(path):
    notebook, cells = sources(path)
    assert notebook.cells[0].source.startswith("# ")
    assert len(notebook.cells) - len(cells) >= len(cells) // 3


def test_functions_are_short_and_defined_once():
    defined = collections.Counter()
    for path in NOTEBOOKS:
        for cell in sources(path)[1]:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    defined[node.name] += 1
                    assert node.end_lineno - node.lineno < 10, f"{path.stem}: {node.name}"
    assert not [name for name, times in defined.items() if times > 1]


@pytest.fixture(scope="module")
def small_log(tmp_path_factory):
    """A log of a shop with groups, on which every notebook runs in seconds: purchases at odd hours, in baskets."""
    random = np.random.default_rng(0)
    rows = [
        (f"c{user:03d}", f"s{user % 3 * 20 + item:02d}", 1.6e9 + 86_400 * step + 977 * (step**2 % 61) + user, step // 2)
        for user in range(150)
        for step, item in enumerate(random.geometric(0.12, random.integers(6, 25)).clip(max=19))
    ]
    folder = tmp_path_factory.mktemp("log") / "shop"
    folder.mkdir()
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "basket"])
    events.to_csv(folder / "interactions.tsv", sep="\t", index=False)
    items = pd.DataFrame({"item_id": sorted({row[1] for row in rows})})
    items["title"] = "<b>Thing</b> " + items["item_id"]
    items["aisle"] = "aisle " + items["item_id"].str[1]
    items["shelf"] = items["aisle"] + items["item_id"].str[2].map(lambda digit: f" shelf {int(digit) // 4}")
    items.to_csv(folder / "items.tsv", sep="\t", index=False)
    return folder


@pytest.fixture(scope="module")
def small_runs(small_log, tmp_path_factory):
    """Folders of two small systems trained on it, which the workbench opens: else it would train its own."""
    import seqlab
    from seqlab import datasets

    split, home = datasets.leave_one_out(datasets.load(small_log)), tmp_path_factory.mktemp("runs")
    for system, settings in {"sasrec": small("sasrec"), "tiger": small("tiger", levels=[4, 8, 64])}.items():
        seqlab.fit(models.create(system, split, settings), split, seqlab.Options(epochs=1), home / system)
    return [str(home / "sasrec"), str(home / "tiger")]


@every
def test_a_notebook_runs_and_its_report_shows_stills_and_numbers(path, small_log, tmp_path, request):
    parameters = {"dataset": str(small_log), **QUICK[path.stem]}
    if path.stem in ("07_workbench", "08_compare_systems", "90_report_system"):
        runs = request.getfixturevalue("small_runs")
        parameters |= {
            "07_workbench": {"runs": runs},
            "08_compare_systems": {"keep": str(shutil.copytree(Path(runs[0]).parent, tmp_path / "kept"))},
            "90_report_system": {"trained": runs[1]},
        }[path.stem]
    if path.stem == "08_compare_systems":
        parameters["recommendations"] = [str(tmp_path / "theirs.csv")]
        everybody = pd.read_csv(small_log / "interactions.tsv", sep="\t", dtype=str).drop_duplicates("user_id")
        everybody.assign(rank=1).to_csv(tmp_path / "theirs.csv", index=False)
    (report,) = render([path], parameters, out=tmp_path, echo=lambda line: None)
    assert report.error is None
    page = report.html.read_text(encoding="utf-8")
    assert "<b>Thing" not in page
    assert 'class="still-missing"' not in page
    assert "Traceback" not in page
    results = json.loads((tmp_path / path.stem / "results.json").read_text(encoding="utf-8"))
    assert results["dataset"] == "shop"
    executed = nbformat.read(tmp_path / path.stem / "executed.ipynb", as_version=4)
    shown = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    figures = sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in shown)
    tables = sum("class='sl'" in "".join(output.get("data", {}).get("text/html", "")) for output in shown)
    assert (figures, tables) == SHOWN[path.stem]
    assert page.count("Plotly.newPlot(") >= figures
    if path.stem == "08_compare_systems":  # what lies in `keep` is compared as it was made, beside what is asked for
        made = {row["system"]: row["folders"] for row in results["made"]}
        assert made["tiger"] == str(tmp_path / "kept" / "tiger")
        assert made["theirs"] == str(tmp_path / "theirs.csv") and "theirs: lists of 1 item," in results["protocol"]
        assert made["sasrec:max_length=8"] == str(tmp_path / "kept" / "sasrec")
        assert made["sasrec:max_length=6"].startswith(str(tmp_path / "kept" / "shop" / "sasrec-0-"))
    if path.stem == "90_report_system":
        assert results["system"] == "tiger" and "levels" in page and results["views"] == ["HistoryEditor", "BeamSteps"]
        assert page.index(f"{widgets.HistoryEditor.question}</h3>") < page.index(f"{widgets.BeamSteps.question}</h3>")


def test_a_report_of_another_run_than_the_one_that_is_there_is_refused(small_log, small_runs, tmp_path):
    parameters = {"dataset": str(small_log), "settings": small("sasrec"), "epochs": 2}
    before = sorted(Path(small_runs[0]).rglob("*"))
    (report,) = render(
        [FOLDER / "90_report_system.ipynb"], {**parameters, "out": small_runs[0]}, tmp_path, echo=lambda line: None
    )
    assert "holds another finished run" in report.error and "epochs 1 instead of 2" in report.error
    assert sorted(Path(small_runs[0]).rglob("*")) == before


def test_a_pinned_workbench_becomes_a_page_that_shows_it(small_log, small_runs, tmp_path):
    from seqlab import datasets
    from seqlab.runs import pins

    items = datasets.load(small_log).items
    state = {
        "dataset": str(small_log), "user": "c003", "typed": [], "history": items["item_id"].iloc[:3].tolist(),
        "selection": {"items": items["item_id"].iloc[5:7].tolist()}, "tab": "Neighbours", "other": "", "seed": 3,
    }  # fmt: skip
    pinned = pins.pin(tmp_path / "mine.json", "07_workbench", state, small_runs)
    (report,) = render([pinned], out=tmp_path / "reports", echo=lambda line: None)
    assert report.error is None
    results = json.loads((tmp_path / "reports" / "mine" / "results.json").read_text(encoding="utf-8"))
    del state["dataset"]
    assert results["state"] == state
    page = report.html.read_text(encoding="utf-8")
    assert "User <bdi>c003</bdi>: 3 events" in page
    assert "2 items, seen by" in page
    headings = re.findall(r"<h3[^>]*><bdi>(\w+)", page)
    assert "Neighbours" in headings and "Decoding" not in headings


def test_a_run_of_a_file_of_ones_own_split_by_time_is_compared_reported_and_opened(tmp_path):
    import seqlab
    from seqlab import datasets

    random, by_time = np.random.default_rng(0), "by-time 2020-09-20 2020-09-23"
    rows = [
        (f"c{user}", f"s{item}", 1.6e9 + 86_400 * step + user)
        for user in range(60)
        for step, item in enumerate(random.geometric(0.2, random.integers(8, 16)).clip(max=12))
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(tmp_path / "shop.csv", index=False)
    split = datasets.split(datasets.load(tmp_path / "shop.csv"), by_time)
    for system in ("sasrec", "popularity"):
        model = models.create(system, split, small(system))
        seqlab.fit(model, split, seqlab.Options(epochs=1), tmp_path / "runs" / system)
    bench = widgets.Workbench.from_folder(tmp_path / "runs", runs=[tmp_path / "runs" / "sasrec"])
    assert bench.split.name == by_time
    compared = widgets.CompareSystems(
        [*bench.runs.values(), seqlab.load_run(tmp_path / "runs" / "popularity", bench.split)], bench.split
    )
    assert by_time in compared.protocol()
    parameters = {
        "dataset": str(tmp_path / "shop.csv"),
        "trained": str(tmp_path / "runs" / "sasrec"),
        "split_name": by_time,
    }
    (report,) = render([FOLDER / "90_report_system.ipynb"], parameters, tmp_path / "reports", echo=lambda line: None)
    assert report.error is None
    results = json.loads((tmp_path / "reports" / "90_report_system" / "results.json").read_text(encoding="utf-8"))
    assert results["split"] == by_time and results["best_floor"]


def test_a_report_of_another_task_shows_what_applies_and_says_what_does_not(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        (f"c{user}", f"s{item}", time)
        for user in range(60)
        for item, time in zip(
            random.integers(1, 9, 12), 1.6e9 + 86_400 * random.exponential(2, 12).cumsum(), strict=True
        )
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(tmp_path / "trips.csv", index=False)
    parameters = {"dataset": str(tmp_path / "trips.csv"), "system": "neural_tpp", "settings": small("neural_tpp")}
    parameters |= {"split_name": "within-user 0.2", "epochs": 1}
    (report,) = render([FOLDER / "90_report_system.ipynb"], parameters, tmp_path / "reports", echo=lambda line: None)
    assert report.error is None
    page = report.html.read_text(encoding="utf-8")
    assert (
        "popularity, markov, personal_frequency cannot be measured by event_time. In their place: household_rate"
        in page
    )
    assert "event_time does not rank items for a person" in page
    results = json.loads((tmp_path / "reports" / "90_report_system" / "results.json").read_text(encoding="utf-8"))
    assert results["best_floor"] == "household_rate"
    assert "time_nats" in results["difference_to_best_floor"] and len(results["slices"])
