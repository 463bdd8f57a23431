"""How soon the workbench is there, and an edit ranked: python -m pytest -s tests/benchmarks/workbench_in_lab.py

Needs amazon-beauty (see data/README.md) and Chromium. Trains SASRec for one epoch, opens notebook 07 on it in a real
JupyterLab, three times in a kernel of its own, and prints the seconds from "Run all cells" to the user's name and a
drawn map. Then the milliseconds from pressing a button to the new list: of edits with a pause between them, and of
edits made at once after one another, all of 12,101 items ranked.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

pytestmark = pytest.mark.timeout(1800)

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "07_workbench.ipynb"
TIMES, EDITS = 3, 6

READY = """() => { const bench = document.querySelector(".seqlab-workbench");
  const map = bench && [...bench.querySelectorAll(".js-plotly-plot")].find((one) => one.querySelector(".legendtext"));
  return Boolean(map && /User/.test((bench.querySelector("h3[role=status]") || {}).innerText)); }"""

WATCH = """() => { const bench = document.querySelector(".seqlab-workbench");
  const list = bench.querySelector(".seqlab-lists");
  window.took = [];
  let began = 0;
  bench.addEventListener("click", () => { began = performance.now(); }, true);
  new MutationObserver(() => requestAnimationFrame(() => {
    if (began) took.push(Math.round(performance.now() - began));
    began = 0;
  })).observe(list, { subtree: true, childList: true, characterData: true }); }"""


@pytest.fixture(scope="module")
def trained(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a SASRec that has seen amazon-beauty once."""
    import seqlab
    from seqlab import datasets, models

    split = datasets.leave_one_out(datasets.load("amazon-beauty"))
    folder = tmp_path_factory.mktemp("runs") / "amazon-beauty" / "sasrec"
    seqlab.fit(models.create("sasrec", split, {}, 0), split, seqlab.Options(epochs=1, tokens=1024), folder)
    return str(folder)


def test_the_workbench_opens_and_an_edit_is_ranked(lab, trained, tmp_path) -> None:
    wanted = {"dataset": "amazon-beauty", "runs": [trained]}
    path = tmp_path / NOTEBOOK.name
    nbformat.write(parameterize_notebook(load_notebook_node(str(NOTEBOOK)), wanted), path)
    seconds, paused, at_once = [], [], []
    for _ in range(TIMES):
        with lab.notebook(path, width=1300, height=1500) as opened:
            page = opened.page
            began = time.perf_counter()
            page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
            page.wait_for_function(READY, timeout=120_000, polling=50)
            seconds.append(round(time.perf_counter() - began, 1))
            opened.idle()
            page.evaluate(WATCH)
            for pause, times in ((1500, paused), (0, at_once)):
                for turn in range(EDITS):
                    name = ("Move earlier", "Move later")[turn % 2]
                    opened.panel.get_by_role("button", name=name).first.click()
                    page.wait_for_function(f"() => took.length === {turn + 1}", timeout=30_000, polling=10)
                    page.wait_for_timeout(pause)
                times += page.evaluate("() => took.splice(0)")
            opened.no_mishaps()
    print(f"\nfrom Run all to the user and a drawn map: {seconds} s; load {os.getloadavg()[0]:.1f}")
    for name, times in (("with a pause before it", paused), ("at once after another", at_once)):
        print(f"an edit {name}: median {statistics.median(times):.0f} ms, at most {max(times)} ms")
