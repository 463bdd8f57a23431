"""Figures of a beam search: boxes where the prefixes stand, probability accounted for, titles that stay text."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import decoding, figures
from seqlab.tokenizers import CodeBook

HOSTILE = ["<script>alert(1)</script>", "<b>bold</b> & co", "שלום", "", "x" * 300, "a\nb\u202ec"]
SIZES = (9, 7, 5)


class Fixed:
    """A model that says the same logits whatever was written."""

    def __init__(self, logits):
        self.logits = logits

    def start(self):
        return self.logits[0][None, None], 0

    def step(self, state, parent, code):
        return self.logits[state + 1].expand(1, parent.shape[1], -1), state + 1


def search(width, renormalise=False, keep=1000):
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(size, (61,), generator=generator) for size in SIZES], 1)
    codes[1] = 0
    logits = [2 * torch.randn(size, generator=generator) for size in SIZES]
    return decoding.beam(Fixed(logits), CodeBook(codes, SIZES).trie, width, renormalise, keep)


def frame_of(beams):
    """The rows of a search with the columns that the figure needs."""
    frame = beams.frame()
    titles = [HOSTILE[item % len(HOSTILE)] for item in frame["item"]]
    answer = [prefix == (0, 0, 0)[: len(prefix)] for prefix in frame["prefix"]]
    return frame.assign(title=titles, exact_rank=frame["item"] + 10, answer=answer)


def boxes(figure):
    trace = figure.data[0]
    return list(zip(trace.base, trace.y, strict=True))


def test_a_box_for_each_of_the_best_kept_and_dropped_prefixes_of_every_step():
    beams = search(6)
    figure = figures.beam_steps(frame_of(beams), beams.mass())
    at = pd.DataFrame(boxes(figure), columns=["level", "y"])
    for level in range(3):
        places = at.loc[at["level"] == level, "y"].tolist()
        assert places[:6] == list(range(6))
        assert len(places) == min(6 + 4, len(beams.frame().query(f"level == {level}")))
        assert all(place > 6 for place in places[6:])


def test_prefixes_without_a_box_are_counted():
    beams = search(20)
    figure = figures.beam_steps(frame_of(beams), beams.mass())
    live = beams.frame().query("level == 2 and state == 'live'")
    assert any(f"and {len(live) - 8} more kept" in text for trace in figure.data if trace.text for text in trace.text)


def test_later_steps_are_hidden_until_they_are_reached():
    beams = search(6)
    whole = figures.beam_steps(frame_of(beams), beams.mass())
    first = figures.beam_steps(frame_of(beams), beams.mass(), last=0)
    assert {x for x, _ in boxes(first)} == {0}
    assert {x for x, _ in boxes(whole)} == {0, 1, 2}
    assert first.layout.xaxis.range == whole.layout.xaxis.range


def test_boxes_are_filled_in_proportion_to_the_best_of_the_step():
    beams = search(6)
    frame = frame_of(beams)
    figure = figures.beam_steps(frame, beams.mass())
    filled = figure.data[1]
    first = [x for x, base in zip(filled.x, filled.base, strict=True) if base == 0]
    chance = np.exp(frame.query("level == 0")["log_probability"].to_numpy())[: len(first)]
    assert np.allclose(np.array(first) / first[0], chance / chance[0])


@pytest.mark.parametrize("renormalise", [False, True])
def test_the_shares_of_every_step_add_up_to_all_probability(renormalise):
    beams = search(4, renormalise)
    figure = figures.beam_steps(frame_of(beams), beams.mass())
    parts = {trace.hovertemplate.split(":")[0]: np.array(trace.customdata) for trace in figure.data if trace.customdata}
    assert np.allclose(sum(parts.values()), 1, atol=1e-5)
    mass = beams.mass()
    assert np.allclose(parts["kept"], mass["live"], atol=1e-6)
    assert np.allclose(parts["illegal"], 0 if renormalise else mass["illegal"], atol=1e-6)
    texts = " ".join(text for trace in figure.data if trace.text for text in trace.text)
    assert ("shared out" in texts) == renormalise


def test_lines_connect_a_prefix_to_its_extensions():
    beams = search(5)
    frame = frame_of(beams)
    lines = next(one for one in figures.beam_steps(frame, beams.mass()).data if one.type == "scatter")
    ends = [at for at, x in enumerate(lines.x) if x is None]
    starts = [0, *(at + 1 for at in ends[:-1])]
    live = frame.query("state == 'live' and level > 0")
    assert len(ends) == len(live)
    for start, end, row in zip(starts, ends, live.itertuples(), strict=True):
        assert (lines.y[start], lines.y[end - 1]) == pytest.approx((row.parent - 1, row.rank - 1))


def test_prefixes_of_the_target_and_search_errors_are_marked():
    beams = search(3)
    frame = frame_of(beams)
    texts = [text for trace in figures.beam_steps(frame, beams.mass()).data if trace.text for text in trace.text]
    place = frame.groupby(["level", "state"]).cumcount()
    shown = frame[place < np.where(frame["state"] == "live", 8, 4)]
    assert sum("✓" in text for text in texts) == shown["answer"].sum() > 0
    lost = figures.beam_steps(frame.assign(exact_rank=3), beams.mass())
    assert any(", place 3" in text for trace in lost.data if trace.text for text in trace.text)
    assert not any(", place" in text for text in texts)


def test_a_search_that_dropped_nothing_has_nothing_grey():
    beams = search(1000)
    figure = figures.beam_steps(frame_of(beams), beams.mass())
    assert not any("dropped, the best first" in text for trace in figure.data if trace.text for text in trace.text)
    assert all(math.isfinite(y) for _, y in boxes(figure))


def found():
    rows = [
        (item, HOSTILE[item], item + 1, width, 1.0 if width > item else float("nan"), item == 1)
        for item in range(4)
        for width in (1, 2, 3)
    ]
    return pd.DataFrame(rows, columns=["item", "title", "exact_rank", "width", "place", "answer"])


def test_the_least_width_that_finds_an_item_is_named():
    figure = figures.beam_widths(found())
    words = next(trace for trace in figure.data if trace.mode == "text")
    assert list(words.text) == ["W ≥ 1", "W ≥ 2", "W ≥ 3", "at none"]
    lost = found().query("item == 1").assign(item=9, title="again", exact_rank=9, place=[1.0, float("nan"), 2.0])
    words = next(one for one in figures.beam_widths(pd.concat([found(), lost])).data if one.mode == "text")
    assert words.text[-1] == "W ≥ 3"  # a beam of 1 has it, but one of 2 loses it again
    dots = [trace for trace in figure.data if trace.mode == "markers+text"]
    assert [len(trace.x) for trace in dots] == [6, 6]
    assert figure.layout.yaxis.ticktext[1].endswith("✓  2")


def test_traces_are_the_same_for_every_step_width_and_user():
    pictures = [
        figures.beam_steps(frame_of(search(width)), search(width).mass(), found(), last, "words", 2)
        for width, last in ((1, 0), (5, 1), (1000, None))
    ]
    assert len({tuple(trace.type for trace in one.data) for one in pictures}) == 1
    assert len({len(one.layout.annotations) for one in pictures}) == 1


def test_no_title_becomes_markup():
    beams = search(6)
    for figure in (figures.beam_steps(frame_of(beams), beams.mass(), found()), figures.beam_widths(found())):
        text = json.dumps(figure.to_plotly_json(), default=lambda array: array.tolist(), ensure_ascii=False)
        for tag in ("<script", "<b>bold"):
            assert tag not in text
        assert "&lt;" in text
        assert "\u202e" not in text
