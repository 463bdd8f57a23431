"""Figures and tables can be taken along: as a page, as data, and from the toolbar of a page without a network."""

import importlib.util
import io

import numpy as np
import pandas as pd
import pytest

from seqlab import figures
from seqlab.figures.saving import figure_rows

NAME = "<i>mine</i> & co"


def scoreboard():
    rows = {name: [(at, at - 0.05, at + 0.05)] * 2 for name, at in ((NAME, 0.25), ("popularity", 0.125))}
    columns, index = ["mean", "low", "high"], ["recall@10", "ndcg@10"]
    return figures.scoreboard({name: pd.DataFrame(row, columns=columns, index=index) for name, row in rows.items()})


def attention():
    frame = pd.DataFrame(
        [(query, key, 0.5) for query in range(3) for key in range(3)], columns=["query", "key", "value"]
    )
    return figures.attention(frame, pd.DataFrame({"position": range(3), "value": [0.1, -0.2, 0.3]}), ["a", NAME, "c"])


def test_the_data_of_a_figure_name_panels_axes_and_intervals():
    rows = figure_rows(scoreboard())
    mine = rows[rows["y label"] == NAME]
    assert mine["panel"].tolist() == ["recall@10", "ndcg@10"] and mine["x"].tolist() == [0.25, 0.25]
    assert mine[["low", "high"]].to_numpy() == pytest.approx(np.array([[0.2, 0.3]] * 2))


def test_a_heatmap_is_a_row_per_cell_with_plain_words():
    rows = figure_rows(attention())
    cells = rows[rows["value"].notna()]
    assert len(cells) == 9 and cells["hover 1"].str.contains(f"looks at {NAME}", regex=False).sum() == 3
    assert rows.loc[rows["value"].isna(), "x"].tolist() == [0.1, -0.2, 0.3]  # the bars beside it


def test_a_flow_has_its_two_ends():
    codes = pd.DataFrame({"level 0": [0, 0, 1]})
    rows = figure_rows(figures.two_codebooks(codes, codes, (NAME, "b")))
    assert rows[["from", "to", "value"]].to_numpy().tolist() == [["‹0›", "‹0›", 2], ["‹1›", "‹1›", 1]]


def test_a_file_that_cannot_be_made_is_explained(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"x\.doc: a figure is saved as \.html, \.csv"):
        figures.save(scoreboard(), tmp_path / "x.doc")
    with pytest.raises(ValueError, match=r"x\.csv: a table is saved as \.html;"):
        figures.save(figures.table(pd.DataFrame({"a": [1]})), tmp_path / "x.csv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"x\.svg needs the package kaleido"):
        figures.save(scoreboard(), tmp_path / "x.svg")
    assert not list(tmp_path.iterdir())


def test_a_page_gives_the_same_data_and_pictures_with_names(tmp_path, offline):
    for name, figure in {"board": scoreboard(), "map": attention()}.items():
        opened = offline(figures.save(figure, tmp_path / f"{name}.html"))
        page, plot = opened.page, opened.page.locator(".js-plotly-plot")
        plot.locator(".main-svg").first.wait_for()
        plot.hover()
        taken = {}
        for title in ("Download plot as a PNG", "Download as SVG", "Download the data as CSV"):
            with page.expect_download() as found:
                plot.get_by_label(title).click()
            taken[found.value.suggested_filename] = found.value.path().read_bytes()
        stem = {"board": "scoreboard", "map": "attention"}[name]
        assert [*taken] == [f"{stem}.png", f"{stem}.svg", f"{stem}.csv"]
        assert taken[f"{stem}.svg"].startswith(b"<svg")
        found = pd.read_csv(io.BytesIO(taken[f"{stem}.csv"]))
        pd.testing.assert_frame_equal(
            found, pd.read_csv(figures.save(figure, tmp_path / f"{name}.csv")), check_dtype=False
        )
        assert not opened.outside and not opened.errors


def test_the_buttons_below_a_table_save_it(tmp_path, offline):
    table = figures.table(pd.DataFrame({"system": [NAME, "b_c"], "ndcg@10": [0.25, np.nan], "users": [1234, 5]}))
    opened = offline(figures.save(table, tmp_path / "table.html"))
    texts = {}
    for kind in ("csv", "tex"):
        with opened.page.expect_download() as found:
            opened.page.locator(f"[data-download={kind}]").click()
        texts[kind] = found.value.path().read_text()
    assert texts["csv"].splitlines() == ["system,ndcg@10,users", f"{NAME},0.2500,1234", "b_c,–,5"]
    assert r"\begin{tabular}{lrr}" in texts["tex"] and r"<i>mine</i> \& co & 0.2500 & 1,234 \\" in texts["tex"]
    assert r"b\_c" in texts["tex"]
