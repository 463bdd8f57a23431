"""Figures of code books: every item is in a branch or counted as left out, and text is escaped."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from seqlab import figures

HOSTILE = ["<script>alert(1)</script>", "<b>bold</b> & co", "שלום", "🦊" * 60, "", "x" * 300, "a\nb\u202ec"]
SIZES = (20, 9, 4)


def coded(count=200, seed=0, hostile=False):
    """Items with random codes, lumpy at the first level."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {f"level {level}": np.minimum(random.geometric(0.2, count) - 1, size - 1) for level, size in enumerate(SIZES)},
        index=pd.RangeIndex(1, count + 1, name="item"),
    )
    titles = HOSTILE if hostile else [f"Thing {item}" for item in range(1, count + 1)]
    frame["title"] = (titles * count)[:count]
    frame["group"] = [f"<u>g{item % 15}</u>" if hostile else f"g{item % 15}" for item in range(count)]
    return frame


def words(frame):
    firsts = {(int(code),): "<i>cheese</i>, milk" for code in frame["level 0"].unique()}
    return firsts | {(int(a), int(b)): "<u>old" for a, b in frame[["level 0", "level 1"]].drop_duplicates().to_numpy()}


def tree(*arguments, **options):
    """The tree as a parsed document."""
    return BeautifulSoup(figures.code_tree(*arguments, **options).markup, "html.parser")


def branches(page):
    """prefix -> its element, from top to bottom and from left to right."""
    return {tuple(map(int, one["data-press"].split("."))): one for one in page.select("[data-press]")}


def under(frame, prefix):
    """Which items' codes begin so."""
    return (frame[[f"level {level}" for level in range(len(prefix))]] == list(prefix)).all(axis=1)


def test_a_branch_stands_beside_the_branches_below_it():
    shown = branches(tree(coded(), {}))
    assert {len(prefix) for prefix in shown} == {1, 2}
    for prefix, one in shown.items():
        if len(prefix) == 2:
            assert shown[prefix[:1]] in one.find_parent(class_="kin").find_all(recursive=False)


def test_every_item_is_in_a_branch_or_counted_as_left_out():
    frame = coded()
    page = tree(frame, {})
    shown = {prefix[0] for prefix in branches(page) if len(prefix) == 1}
    assert shown == set(frame["level 0"].value_counts().index[:9])
    left = (~frame["level 0"].isin(shown)).sum()
    assert f"{frame['level 0'].nunique() - 9} more codes with {left} items" in page.text
    for prefix, one in branches(page).items():
        assert f"{under(frame, prefix).sum()} item" in one.text
    kin = page.select(".kin")[1]  # the first is the head
    first, *nexts = (int(re.search(r"([\d,]+) items?", one.text)[1]) for one in kin.select(".branch, i"))
    assert sum(nexts) == first


def test_the_largest_come_first_and_a_picked_branch_is_never_left_out():
    frame = coded()
    counts = frame["level 0"].value_counts()
    rare = int(counts.index[-1])
    second = int(frame.loc[frame["level 0"] == rare, "level 1"].iloc[0])
    plain = branches(tree(frame, {}))
    assert (rare,) not in plain
    assert [prefix[0] for prefix in plain if len(prefix) == 1] == list(counts.index[:9])
    picked = tree(frame, {}, picked=(rare, second))
    assert [one["data-press"] for one in picked.select(".picked")] == [f"{rare}.{second}"]


def test_an_opened_branch_shows_its_own_branches_down_to_the_last_code():
    frame = coded()
    first = int(frame["level 0"].mode()[0])
    assert all(prefix[0] == first for prefix in branches(tree(frame, {}, path=(first,))))
    second = int(frame.loc[frame["level 0"] == first, "level 1"].mode()[0])
    deepest = branches(tree(frame, {}, path=(first, second)))
    assert {len(prefix) for prefix in deepest} == {3}
    with pytest.raises(KeyError, match="no item"):
        figures.code_tree(frame, {}, path=(999,))


def test_the_colours_of_a_branch_are_as_broad_as_the_groups_in_it():
    frame = coded()
    page = tree(frame, {}, group="shelf")
    names = [one.text for one in page.select(".kind")]
    assert names[0] == "shelf:"
    assert names[1:] == [*frame["group"].value_counts().index[:10], "other"]
    colours = [one.i["style"].removeprefix("background:") for one in page.select(".kind") if one.i]
    for prefix, one in branches(page).items():
        inside = frame[under(frame, prefix)]["group"]
        stops = re.findall(r"(#\w+|rgba\(.*?\)) ([\d.]+)% ([\d.]+)%", one.select_one(".parts")["style"])
        for colour, start, end in stops:
            name = names[1:][colours.index(colour)]
            share = (inside == name).mean() if name != "other" else (~inside.isin(names)).mean()
            assert float(end) - float(start) == pytest.approx(100 * share, abs=0.11)
        assert float(stops[-1][2]) == 100
    bare = tree(frame.drop(columns="group"), {})
    assert not bare.select(".kind, .parts")


def test_a_branch_shows_its_share_of_a_selection():
    frame = coded()
    first = int(frame["level 0"].mode()[0])
    selected = frame.index[(frame["level 0"] == first) | (frame.index <= 20)].to_numpy()
    page = tree(frame, {}, selected=selected)
    for prefix, one in branches(page).items():
        inside = under(frame.loc[selected], prefix).sum()
        share = one.select_one(".share")
        assert (share is None) == (inside == 0)
        assert f"{inside} of the {len(selected)} selected items" in one["title"]
        if inside:
            assert share.text == (f"{inside / len(selected):.0%}" if inside / len(selected) >= 0.005 else "<1%")
            assert one.select_one(".strip")["style"] == f"width:{100 * inside / len(selected):.2f}%"
    assert not tree(frame, {}, selected=selected[:0]).select(".share, .strip")


def test_branches_are_buttons_where_they_can_be_pressed():
    page = tree(coded(), {}, buttons=True)
    still = tree(coded(), {})
    assert branches(page).keys() == branches(still).keys()
    assert all(one.name == "button" for one in branches(page).values())
    assert not still.select("button")


def test_the_codes_in_the_other_tokenizer_are_listed_beside_the_items():
    page = tree(coded().assign(there=7), {}, other="rq_vae")
    cells = [row.find_all(recursive=False)[-1].text for row in page.select(".row")]
    assert "rq_vae" in cells[0]
    assert all(one.startswith("‹7› ") for one in cells[1:])


def test_use_has_a_bar_for_every_code_also_for_unused_ones():
    use = pd.DataFrame({"level": [0, 0, 0, 1, 1], "code": [0, 1, 2, 0, 1], "items": [1, 5, 0, 3, 3]})
    figure = figures.code_use(use)
    assert [list(trace.y) for trace in figure.data] == [[5, 1, 0], [3, 3]]
    assert "level 1: 2 of 3 codes used" in figure.layout.annotations[0].text


def report(levels=3):
    return pd.DataFrame(
        {
            "codes": 8, "used": 6, "perplexity": 4.5, "legal": [8.0, 3.0, 1.0],
            "variance left": [0.5, 0.2, float("nan")],
        },
        index=pd.RangeIndex(levels, name="level"),
    )  # fmt: skip


def test_levels_start_from_all_the_variance_and_leave_out_what_is_unknown():
    figure = figures.code_levels({"<b>a": report(), "b": report()})
    residuals = [trace for trace in figure.data if trace.type == "scatter" and trace.xaxis == "x"]
    assert [list(trace.y) for trace in residuals] == [[1.0, 0.5, 0.2]] * 2
    assert residuals[0].name == "&lt;b&gt;a"


def test_training_shows_losses_and_use_or_a_message_without_epochs():
    history = [{"epoch": at, "reconstruction": 2.0, "use 0": 0.5, "use 1": 0.25, "unique": 0.1} for at in range(3)]
    figure = figures.code_training(history)
    assert [(trace.name, trace.xaxis) for trace in figure.data] == [
        ("reconstruction", "x"), ("codes used, level 1", "x2"), ("codes used, level 2", "x2"), ("unique tuples", "x2"),
    ]  # fmt: skip
    assert len(figures.code_training([{"epoch": 0, "loss": 1.0}]).data) == 1
    assert "clusters once" in figures.code_training([]).layout.annotations[0].text


def test_collisions_count_every_item_once_per_level():
    frame = pd.DataFrame({"level 0": [0, 0, 0, 1], "level 1": [0, 0, 1, 0], "title": "t"})
    figure = figures.collisions({"a": frame})
    by_name = {trace.name: list(trace.customdata) for trace in figure.data}
    assert by_name["alone"] == [1, 2]
    assert by_name["2"] == [0, 2]
    assert by_name["3 to 5"] == [3, 0]
    assert np.allclose(np.sum([trace.x for trace in figure.data], axis=0), 1)


def test_flows_between_two_tokenizers_count_the_items_of_the_shown_codes():
    here, there = coded(seed=0), coded(seed=1)
    flow = figures.two_codebooks(here, there.sample(frac=1, random_state=0), ("a", "b"), most=4).data[0]
    assert sum(flow.link.value) == here["level 0"].value_counts().iloc[:4].sum()
    biggest = int(here["level 0"].mode()[0])
    start = [label.startswith(f"‹{biggest}›") for label in flow.node.label].index(True)
    goes = {
        flow.node.label[target]: value
        for source, target, value in zip(flow.link.source, flow.link.target, flow.link.value, strict=True)
        if source == start
    }
    same = there.loc[here.index[here["level 0"] == biggest], "level 0"]
    code = int(same.mode()[0])
    assert next(value for name, value in goes.items() if name.startswith(f"‹{code}›")) == (same == code).sum()


def test_no_title_word_or_name_becomes_markup():
    frame = coded(hostile=True)
    page = tree(frame.assign(there=1), words(frame), group="<b>bold", other="<script>", buttons=True)
    assert not page.select("script, img, u, bdi *")
    assert {key for one in page.select("button") for key in one.attrs} == {"class", "type", "data-press", "title"}
    assert "<script>" in page.text
    assert "\u202e" not in str(page)
    for figure in (
        figures.two_codebooks(frame, frame, ("<script>", "<b>bold"), (words(frame), words(frame))),
        figures.collisions({"<script>": frame}),
        figures.code_levels({"<script>": report(), "<b>bold": report()}),
        figures.code_training([{"epoch": 0, "<script>": 1.0}]),
    ):
        text = json.dumps(figure.to_plotly_json(), default=lambda array: array.tolist(), ensure_ascii=False)
        for tag in ("<script", "<b>bold", "<i>cheese", "<u>"):
            assert tag not in text
        assert "&lt;" in text
        assert "\u202e" not in text
