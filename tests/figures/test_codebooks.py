"""Figures of code books: every item is in a branch, what is left out is counted, titles and words stay text."""

import json

import numpy as np
import pandas as pd
import pytest

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


def blocks(figure):
    """prefix -> (left edge, middle, rows) of every branch."""
    trace = figure.data[0]
    return {
        tuple(map(int, one.split("."))): (x, y, width)
        for one, x, y, width in zip(trace.customdata, trace.base, trace.y, trace.width, strict=True)
    }


def test_a_branch_stands_beside_the_branches_below_it():
    shown = blocks(figures.code_tree(coded(), {}))
    assert {len(prefix) for prefix in shown} == {1, 2}
    for prefix, (x, y, _) in shown.items():
        if len(prefix) == 2:
            above, middle, rows = shown[prefix[:1]]
            assert x > above
            assert abs(y - middle) <= rows / 2


def test_every_item_is_in_a_branch_or_counted_as_left_out():
    frame = coded()
    figure = figures.code_tree(frame, {})
    shown = {prefix[0] for prefix in blocks(figure) if len(prefix) == 1}
    assert shown == set(frame["level 0"].value_counts().index[:9])
    left = (~frame["level 0"].isin(shown)).sum()
    assert any(
        f"{frame['level 0'].nunique() - 9} more codes with {left} items" in text for text in figure.data[-1].text
    )


def test_the_largest_come_first_and_a_picked_branch_is_never_left_out():
    frame = coded()
    counts = frame["level 0"].value_counts()
    rare = int(counts.index[-1])
    second = int(frame.loc[frame["level 0"] == rare, "level 1"].iloc[0])
    plain = blocks(figures.code_tree(frame, {}))
    assert (rare,) not in plain
    picked = figures.code_tree(frame, {}, picked=(rare, second))
    assert (rare, second) in blocks(picked)
    outlined = [width > 0 for width in picked.data[0].marker.line.width]
    assert sum(outlined) == 1
    assert picked.data[0].customdata[outlined.index(True)] == f"{rare}.{second}"
    ordered = sorted((place[1], prefix) for prefix, place in plain.items() if len(prefix) == 1)
    assert [prefix[0] for _, prefix in ordered] == list(counts.index[:9])


def test_an_opened_branch_shows_its_own_branches_down_to_the_last_code():
    frame = coded()
    first = int(frame["level 0"].mode()[0])
    assert all(prefix[0] == first for prefix in blocks(figures.code_tree(frame, {}, path=(first,))))
    second = int(frame.loc[frame["level 0"] == first, "level 1"].mode()[0])
    deepest = blocks(figures.code_tree(frame, {}, path=(first, second)))
    assert {len(prefix) for prefix in deepest} == {3}
    with pytest.raises(KeyError, match="no item"):
        figures.code_tree(frame, {}, path=(999,))


def test_the_coloured_parts_of_a_branch_add_up_to_the_whole():
    figure = figures.code_tree(coded(), {}, group="shelf")
    total = np.sum([trace.x for trace in figure.data[1:-1]], axis=0)
    assert np.allclose(total, total[0])
    assert figure.layout.showlegend
    bare = figures.code_tree(coded().drop(columns="group"), {})
    assert not bare.layout.showlegend
    assert not np.any([trace.x for trace in bare.data[1:-1]])


def test_a_live_tree_can_be_redrawn_wherever_it_is_opened():
    frame = coded(hostile=True)
    first = int(frame["level 0"].mode()[0])
    pictures = [
        figures.code_tree(frame, words(frame)),
        figures.code_tree(frame, {}, path=(first,)),
        figures.code_tree(frame.drop(columns="group"), {}),
        figures.code_tree(frame.assign(there=frame["level 1"]), {}, other="x"),
        figures.code_tree(frame.drop(columns=["level 1", "level 2"]), {}),
    ]
    assert len({tuple(trace.type for trace in one.data) for one in pictures}) == 1
    assert len({len(one.layout.annotations) for one in pictures}) == 1


def test_where_items_are_in_the_other_tokenizer_is_told_beside_them():
    frame = coded().assign(there=7)
    figure = figures.code_tree(frame, {}, other="rq_vae")
    assert sum(text.startswith("‹7› ") for text in figure.data[-1].text) >= 9
    assert any("rq_vae" in one.text for one in figure.layout.annotations)


def test_use_has_a_bar_for_every_code_also_for_dead_ones():
    use = pd.DataFrame({"level": [0, 0, 0, 1, 1], "code": [0, 1, 2, 0, 1], "items": [1, 5, 0, 3, 3]})
    figure = figures.code_use(use)
    assert [list(trace.y) for trace in figure.data] == [[5, 1, 0], [3, 3]]
    assert "2 of 3 codes used" in figure.layout.annotations[0].text


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


def test_training_shows_losses_and_use_apart_or_says_that_there_is_none():
    history = [{"epoch": at, "reconstruction": 2.0, "use 0": 0.5, "use 1": 0.25, "unique": 0.1} for at in range(3)]
    figure = figures.code_training(history)
    assert [(trace.name, trace.xaxis) for trace in figure.data] == [
        ("reconstruction", "x"), ("codes used, level 0", "x2"), ("codes used, level 1", "x2"), ("unique tuples", "x2"),
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


def test_bands_between_two_tokenizers_carry_the_items_of_the_shown_codes():
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
    for figure in (
        figures.code_tree(frame.assign(there=1), words(frame), group="<b>bold", other="<script>"),
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
