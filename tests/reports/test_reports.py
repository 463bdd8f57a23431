"""A notebook becomes one page that opens offline; every failure has an error message."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from seqlab.reports import render as reports
from seqlab.reports.parameters import ParameterError
from seqlab.runs.pins import pin

HOSTILE = "<script>alert(1)</script>"
FIGURE = f"""
import plotly.graph_objects as go
go.Figure(go.Scatter(y=[1, 2, 3])).update_layout(title={HOSTILE!r})
"""
WIDGET = """
class Widget:
    def _repr_mimebundle_(self, include=None, exclude=None):
        view = {"model_id": "0", "version_major": 2}
        return {"application/vnd.jupyter.widget-view+json": view, "text/html": "<b>its still</b>"}
Widget()
"""
GREETING = "import seqlab\nseqlab.record({'words': word * times})"
PARAMETERS = 'word = "a"  # the text\ntimes = 1  # how often\nshare = 0.5  # of what\nnames = ["x"]  # of whom'


def render(path: Path | list[Path], parameters: dict | None = None, **options) -> list[reports.Report]:
    paths = path if isinstance(path, list) else [path]
    return reports.render(paths, parameters, out=paths[0].parent / "reports", echo=lambda line: None, **options)


@pytest.mark.browser
def test_a_report_opens_offline_with_its_figures_drawn(notebook, offline) -> None:
    path = notebook("page", f"# A page {HOSTILE}", FIGURE, FIGURE, WIDGET, f"print({HOSTILE!r})", kernel="python3")
    (report,) = render(path)
    assert report.error is None
    opened = offline(report.html)
    opened.page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2")
    assert opened.page.locator(".js-plotly-plot").count() == 2
    assert opened.page.get_by_text("its still", exact=True).is_visible()
    assert HOSTILE in opened.page.locator("body").inner_text()
    assert not opened.outside and not opened.errors and not opened.dialogs
    narrow = offline(report.html, width=390)
    assert narrow.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    html = report.html.read_text(encoding="utf-8")
    assert html.count("plotly.js v") == 1 and 'type="application/vnd.jupyter' not in html
    listed = offline(report.html.parent / "index.html", width=390)
    assert HOSTILE in listed.page.locator("body").inner_text()
    assert not listed.outside and not listed.errors and not listed.dialogs
    assert listed.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


LEADING = """
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML, display
from seqlab import figures
figures.training_curve(pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "ndcg@10": [0.1, 0.2]})).show()
figure = go.Figure(go.Scatter(y=[1, 2, 3]))
figure.show(config={"showSendToCloud": True, "displaylogo": True, "plotlyServerURL": "https://example.org"})
display(HTML(figure.to_html(full_html=False, include_plotlyjs=False)))
"""


@pytest.mark.browser
def test_no_control_of_a_page_opens_another_site(notebook, offline) -> None:
    """Not those of our figures, of a plain one that asks to be uploaded, nor of one that came as markup."""
    (report,) = render(notebook("leading", LEADING, kernel="python3"))
    assert report.error is None
    opened = offline(report.html)
    opened.page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
    root = opened.page.locator("body")
    root.evaluate("() => { for (const it of document.querySelectorAll('.plotly-graph-div')) it.scrollIntoView() }")
    assert len([name for name in opened.leads_nowhere(root) if name.startswith("Pan")]) == 3
    links = [link.get_attribute("href") for link in root.locator("a[href]").all()]
    files = [f"leading/{name}" for name in ("executed.ipynb", "results.json", "provenance.json")]
    assert links == ["index.html", *files]
    root.locator("a[href]").first.click()
    assert opened.page.url.endswith("/index.html") and not opened.outside and not opened.windows


def test_results_and_provenance_are_written_beside_the_page(notebook) -> None:
    path = notebook("greet", GREETING, parameters=PARAMETERS)
    (report,) = render(path, {"word": "007", "times": "2"})
    beside = report.html.with_suffix("")
    assert json.loads((beside / "results.json").read_text()) == {"words": "007007"}
    about = json.loads((beside / "provenance.json").read_text())
    assert about["ok"] and about["parameters"]["word"] == "007" and about["parameters"]["share"] == 0.5
    assert about["versions"]["torch"] and str(path.parent) not in json.dumps(about)
    kept = nbformat.read(beside / "executed.ipynb", as_version=4)
    assert "widgets" not in kept.metadata


@pytest.fixture
def pinned(notebook, monkeypatch, tmp_path):
    """A notebook of the lab, a run folder, and a view pinned beside it."""
    record = "import seqlab\nseqlab.record({'user': user, 'runs': runs})"
    path = notebook("show", record, parameters='user = ""\nruns = []')
    monkeypatch.setattr(reports, "curated", lambda: [path])
    run = tmp_path / "carried" / "runs" / "sasrec"
    run.mkdir(parents=True)
    (run / "model.safetensors").write_bytes(b"weights")
    return pin(run.parents[1] / "pins" / "a view.json", "show", {"user": "007 <b>"}, [run])


def test_a_pinned_view_renders_after_its_folder_has_moved(pinned, tmp_path) -> None:
    carried = shutil.move(tmp_path / "carried", tmp_path / "another machine")
    (report,) = reports.render([carried / "pins" / pinned.name], out=tmp_path / "reports", echo=lambda line: None)
    assert report.error is None and report.name == "a view"
    results = json.loads((report.html.with_suffix("") / "results.json").read_text())
    assert results == {"user": "007 <b>", "runs": [str(carried / "runs" / "sasrec")]}


def test_a_pin_of_other_weights_of_none_or_of_a_foreign_notebook_is_refused(pinned, tmp_path) -> None:
    view = json.loads(pinned.read_text())
    assert "carried" not in pinned.read_text()  # nothing of this machine
    weights = pinned.parents[1] / "runs" / "sasrec" / "model.safetensors"
    weights.write_bytes(b"others")
    with pytest.raises(ValueError, match="other weights than those that were pinned"):
        render(pinned)
    weights.unlink()
    with pytest.raises(ValueError, match="which is missing; bring it"):
        render(pinned)
    for content, message in [
        (json.dumps(view | {"notebook": "../evil", "runs": {}}), "no notebook of this lab"),
        (json.dumps({"notebook": "show"}), "is no pinned view"),
        ("[", "is no pinned view"),
        (json.dumps(view | {"parameters": {"usr": ""}, "runs": {}}), "Did you mean 'user'"),
    ]:
        pinned.write_text(content)
        with pytest.raises(ValueError, match=message):
            render(pinned)
    with pytest.raises(ValueError, match="no finished run"):
        pin(tmp_path / "x.json", "show", {}, [tmp_path])
    assert not (tmp_path / "x.json").exists()


def test_a_pinned_file_is_found_wherever_the_view_and_the_shell_are(pinned, monkeypatch, tmp_path) -> None:
    shop = tmp_path / "carried" / "shop data"
    shop.mkdir()
    (shop / "interactions.tsv").write_text("")
    monkeypatch.setattr(reports, "curated", lambda: [tmp_path / "show.ipynb"])
    path = tmp_path / "show.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\ndataset = ''"
    notebook.cells[1].source = "import seqlab\nseqlab.record({'dataset': dataset})"
    nbformat.write(notebook, path)
    monkeypatch.chdir(shop.parent)
    view = shop.parent / "pins" / "own.json"

    def shown(dataset: str, given: dict | None = None) -> str:
        pin(view, "show", {"dataset": dataset})
        monkeypatch.chdir(tmp_path)
        (report,) = reports.render([view], given, out=tmp_path / "reports", echo=lambda line: None)
        monkeypatch.chdir(shop.parent)
        return json.loads((report.html.with_suffix("") / "results.json").read_text())["dataset"]

    assert shown("shop data") == shown(str(shop)) == str(shop)  # from the working folder on, or whole
    assert "../shop data" in view.read_text() and str(tmp_path) not in view.read_text()
    assert shown("ml-1m") == "ml-1m"
    assert shown("shop data", {"dataset": "mine.csv"}) == "mine.csv"  # the shell's


READING = """
import os, pathlib
import beside
import seqlab
pathlib.Path(kept).mkdir(parents=True)
seqlab.record({"read": pathlib.Path(read).read_text(), "beside": beside.WORD, "folder": os.getcwd()})
"""


def test_paths_are_relative_to_the_working_folder_for_every_notebook(notebook, monkeypatch, tmp_path) -> None:
    """Parameters that are read and written, of notebooks in two folders; modules are found beside each."""
    paths = []
    for name in ("first", "second"):
        path = notebook(name, READING, parameters='read = ""\nkept = ""')
        folder = tmp_path / f"folder of {name}"
        folder.mkdir()
        (folder / "beside.py").write_text(f"WORD = {name!r}")
        (folder / "queue.py").write_text("raise SystemExit")  # must not stand in for Python's own as a kernel starts
        paths.append(shutil.move(path, folder / path.name))
    here = tmp_path / "here"
    here.mkdir()
    (here / "log.csv").write_text("the shell's")
    monkeypatch.chdir(here)
    for path in paths:
        (path.parent / "log.csv").write_text("another one")
        (report,) = reports.render([path], {"read": "log.csv", "kept": f"runs/{path.stem}"}, echo=lambda line: None)
        assert report.error is None
        results = json.loads((here / "reports" / path.stem / "results.json").read_text())
        assert results == {"read": "the shell's", "beside": path.stem, "folder": str(here)}
        assert (here / "runs" / path.stem).is_dir() and not (path.parent / "runs").exists()


def test_a_missing_file_is_named_relative_to_the_working_folder(notebook, monkeypatch, tmp_path) -> None:
    path = notebook("look", "from seqlab import datasets; datasets.load(dataset)", parameters='dataset = ""')
    here = tmp_path / "where I am"
    here.mkdir()
    monkeypatch.chdir(here)
    (report,) = reports.render([path], {"dataset": "lgo.csv"}, echo=lambda line: None)
    assert "relative to the current folder, 'where I am'" in report.error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"wrod": "x"}, "Did you mean 'word'?"),
        ({"word;print(1)": "x"}, "there is no parameter"),
        ({"times": "two"}, "'times' must be a whole number (got 'two')."),
        ({"times": 1.5}, "must be a whole number"),
        ({"times": True}, "must be a whole number"),
        ({"share": "nan"}, "'share' must be a finite number"),
        ({"names": [1]}, "each member text"),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(notebook, given: dict, message: str) -> None:
    path = notebook("greet", GREETING, parameters=PARAMETERS)
    with pytest.raises(ParameterError, match=re.escape(message)):
        render(path, given)
    assert not (path.parent / "reports").exists()


def test_a_failing_notebook_is_listed_and_stops_no_other(notebook) -> None:
    bad = notebook("bad", "print('so far so good')", f"raise ValueError({HOSTILE!r})", "print('never')")
    good = notebook("good", "print('fine')")
    first, second = render([bad, good], jobs=2)
    assert first.error is not None and "ValueError" in first.error and second.error is None
    page = first.html.read_text(encoding="utf-8")
    assert "so far so good" in page and "never'" not in page.split('id="error"')[0] and HOSTILE not in page
    assert 'rel="next" href="good.html"' in page  # both are made in this call
    index = (first.html.parent / "index.html").read_text(encoding="utf-8")
    assert "ValueError" in index and "good.html" in index and HOSTILE not in index


@pytest.mark.parametrize(
    ("cell", "message"),
    [("import time; time.sleep(60)", "took longer than 2 s"), ("import sys; sys.exit(0)", "left the notebook"),
     ("import os; os._exit(1)", "kernel died")],
)  # fmt: skip
def test_failures_that_papermill_ignores_are_reported(notebook, cell: str, message: str) -> None:
    (report,) = render(notebook("strange", cell, "print(1)"), timeout=2)
    assert report.error is not None and message in report.error


def test_an_output_that_cannot_be_shown_fails_its_own_report_only(notebook) -> None:
    bare = 'from IPython.display import display; display({"application/vnd.plotly.v1+json": {"layout": {}}}, raw=True)'
    first, second = render([notebook("bare", bare), notebook("good", "print('fine')")])
    assert first.error is not None and "cannot be shown" in first.error and second.error is None
    assert not json.loads((first.html.with_suffix("") / "provenance.json").read_text())["ok"]


def test_outputs_of_an_earlier_run_are_not_shown_as_new(notebook) -> None:
    path = notebook("stale", "1 / 0", "print('never')")
    stored = nbformat.read(path, as_version=4)
    stored.cells[1].outputs = [nbformat.v4.new_output("stream", text="from long ago")]
    nbformat.write(stored, path)
    (report,) = render(path)
    assert "from long ago" not in report.html.read_text(encoding="utf-8")


def test_two_reports_of_one_name_are_refused(notebook, tmp_path: Path) -> None:
    path = notebook("same", "print(1)")
    other = tmp_path / "elsewhere" / "same.ipynb"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="both become the report 'same'"):
        render([path, other])


def test_a_report_replaces_the_older_one_and_leaves_nothing_else(notebook) -> None:
    path = notebook("again", "import seqlab; seqlab.record({'n': 1})")
    render(path)
    (report,) = render(path)
    assert sorted(entry.name for entry in report.html.parent.iterdir()) == ["again", "again.html", "index.html"]


def test_reports_are_complete_whenever_the_process_is_killed(notebook) -> None:
    """SIGKILL for the whole process, at random moments; the next one goes on as if it had not been."""
    path = notebook("killed", "import seqlab, time; time.sleep(0.5); seqlab.record({'n': 1})", FIGURE)
    (first,) = render(path)
    out, random = first.html.parent, np.random.default_rng(0)
    command = [sys.executable, "-m", "seqlab", "report", str(path), "--out", str(out)]
    for turn in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
        while not list(out.glob(".killed.new/*/executed.ipynb")) and process.poll() is None:
            time.sleep(0.01)  # until it has begun to write
        time.sleep(random.uniform(0.5, 1.2) if turn % 2 else random.uniform(0, 0.06))
        process.kill()
        process.wait()
        assert first.html.read_text(encoding="utf-8").rstrip().endswith("</html>")
        assert (out / "index.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
        for folder in out.glob("[!.]*/"):
            assert json.loads((folder / "results.json").read_text(encoding="utf-8")) == {"n": 1}
            assert json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["ok"] is True
            assert len(nbformat.read(folder / "executed.ipynb", as_version=4).cells) == 2
    (again,) = render(path)
    assert again.error is None
    assert sorted(entry.name for entry in out.iterdir()) == ["index.html", "killed", "killed.html"]


def test_two_processes_cannot_render_one_report(notebook) -> None:
    path = notebook("slow", "import time; time.sleep(60)")
    out = path.parent / "reports"
    command = [sys.executable, "-m", "seqlab", "report", str(path), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2]) as first:
        while not list(out.glob(".slow.new/*/executed.ipynb")) and first.poll() is None:
            time.sleep(0.01)
        with pytest.raises(BlockingIOError, match="another process is making the report 'slow'"):
            reports.render([path], out=out)
        assert first.poll() is None
        first.kill()
    (folder,) = (entry for entry in out.iterdir() if entry.is_dir())
    assert folder.name == ".slow.new"  # for the next one to clear away


def test_a_split_is_a_parameter_and_a_notebook_that_splits_no_log_refuses_it(notebook) -> None:
    path = notebook(
        "split", "import seqlab\nseqlab.record({'split': split_name})", parameters='split_name = "x"  # how'
    )
    render(path, {"split_name": "by-time 2017-10-01 2017-11-01"})
    stored = (path.parent / "reports" / "split" / "results.json").read_text(encoding="utf-8")
    assert json.loads(stored) == {"split": "by-time 2017-10-01 2017-11-01"}
    with pytest.raises(ParameterError, match=r"plain.ipynb: it splits no log: it has no parameter split_name"):
        render(notebook("plain", GREETING, parameters=PARAMETERS), {"split_name": "leave-one-out"})


def test_settings_are_added_to_those_of_the_notebook(notebook) -> None:
    records = "import seqlab\nseqlab.record(settings)"
    path = notebook("settings", records, parameters='settings = {"dim": 8, "layers": 1}', kernel="python3")
    (report,) = render(path, settings={"layers": "2", "decoding": "diverse"})
    found = json.loads((report.html.parent / report.name / "results.json").read_text())
    assert {"dim": 8, "layers": "2", "decoding": "diverse"}.items() <= found.items()
    plain = notebook("plain", records, parameters="word = 1", kernel="python3")
    with pytest.raises(ParameterError, match="it has no settings of one system or tokenizer, which --set changes"):
        render(plain, settings={"layers": "2"})
