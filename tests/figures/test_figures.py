"""Figures of small tables: their traces, their labels, and escaped titles."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab import figures
from seqlab.datasets import leave_one_out, smells
from seqlab.datasets.log import make_log
from seqlab.figures.theme import label, plain

HOSTILE = ["<script>alert(1)</script>", "<b>bold</b> & co", "שלום", "🦊" * 200, "", "x" * 300, "a\nb\u202ec"]


def numbers(figure):
    """Every x and y of every trace that is a number."""
    values = []
    for trace in figure.data:
        for axis in ("x", "y"):
            given = getattr(trace, axis, None)
            if given is not None:
                values += [value for value in given if isinstance(value, (int, float, np.number))]
    return values


@pytest.fixture
def events():
    random = np.random.default_rng(0)
    lengths = random.integers(3, 60, 50)
    user = np.repeat(np.arange(1, 51), lengths)
    item = np.minimum(random.geometric(0.05, len(user)), 80)
    time = np.concatenate([random.integers(0, 10**7, n).cumsum() for n in lengths]).astype(float)
    return pd.DataFrame({"user": user, "item": item, "timestamp": time})


@pytest.mark.parametrize("name", ["history_lengths", "popularity", "gaps", "repeats_by_lag"])
def test_log_figures_have_axis_titles_and_finite_numbers(events, name):
    figure = getattr(figures, name)(events)
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text
    assert numbers(figure)
    assert all(math.isfinite(value) for value in numbers(figure))


def test_a_figure_shown_by_any_renderer_cannot_be_uploaded(events):
    import plotly.io

    shown = figures.popularity(events).to_dict()
    for name in ("plotly_mimetype", "jupyterlab", "vscode", "colab", "notebook"):
        for content in plotly.io.renderers[name].to_mimebundle(shown).values():
            config = content["config"] if isinstance(content, dict) else content
            assert '"showSendToCloud": false' in (config if isinstance(config, str) else json.dumps(config))


def test_every_user_is_in_a_bar(events):
    assert sum(figures.history_lengths(events).data[0].y) == events["user"].nunique()


def test_lags_are_counted_from_the_last_occurrence():
    rows = [(1, item) for item in (5, 6, 5, 5, 7, 6)] + [(2, item) for item in (5, 8, 9, 8)]
    table = pd.DataFrame(rows, columns=["user", "item"]).assign(timestamp=np.arange(10.0))
    shares = dict(zip(range(1, 51), figures.repeats_by_lag(table).data[0].y, strict=True))
    assert shares[1] == pytest.approx(1 / 10)  # 5 5
    assert shares[2] == pytest.approx(2 / 10)  # 5 6 5, and 8 9 8
    assert shares[4] == pytest.approx(1 / 10)  # 6 5 5 7 6
    assert sum(shares.values()) == pytest.approx(4 / 10)


def test_copies_of_events_are_no_repeats_as_in_the_smells():
    rows = [(user, item, step) for user in range(20) for step, item in enumerate([1, 2 + user, 3, 1, 5])]
    log = make_log(pd.DataFrame(rows + rows[:35], columns=["user", "item", "timestamp"]))
    text = figures.repeats_by_lag(log.events).layout.annotations[-1].text
    value = smells(leave_one_out(log)).set_index("smell")["value"]["repeats"]
    assert text.startswith(f"{value:.1%} of events bring an item back") and 0.2 <= value < 0.25


def test_gaps_without_timestamps_or_all_at_once_are_explained(events):
    assert "no timestamps" in figures.gaps(events.assign(timestamp=np.nan)).layout.annotations[0].text
    assert "100.0% of pairs share one moment" in figures.gaps(events.assign(timestamp=5.0)).layout.annotations[-1].text


def test_gaps_that_go_back_in_time_are_no_equal_moments_and_agree_with_the_smells():
    rows = [(user, (user + step) % 40, [10, 5, 20, 5, 2, 30][step]) for user in range(40) for step in range(6)]
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), order="source")
    text = figures.gaps(log.events).layout.annotations[-1].text
    assert text == "0.0% of pairs share one moment (33.3% of events), 60.0% go back in time: not drawn"
    found = smells(leave_one_out(log)).set_index("smell")["value"]
    assert f"({found['ties']:.1%} of events), {found['times run backwards']:.1%} go back" in text
    assert "back in time" not in figures.gaps(make_log(log.events).events).layout.annotations[-1].text


def board():
    rows = {
        name: [(value, value - 0.01, value + 0.01)] * 2 for name, value in (("<i>mine</i>", 0.2), ("popularity", 0.1))
    }
    return {
        name: pd.DataFrame(row, columns=["mean", "low", "high"], index=["recall@10", "ndcg@10"])
        for name, row in rows.items()
    }


def test_scoreboard_puts_the_best_first_and_hides_no_interval():
    figure = figures.scoreboard(board())
    assert list(figure.layout.yaxis.ticktext) == ["popularity", "&lt;i&gt;mine&lt;/i&gt;"]  # from the bottom up
    low, high = figure.layout.xaxis.range
    assert low <= 0
    assert high > 0.21
    whiskers = [tuple(trace.x) for trace in figure.data if trace.mode == "lines"]
    assert (0.09, 0.11) in [tuple(round(one, 6) for one in whisker) for whisker in whiskers]


def test_a_difference_is_coloured_only_when_its_interval_misses_zero():
    frame = pd.DataFrame(
        {"a": 0.2, "b": 0.1, "difference": [0.1, 0.0, -0.1], "low": [0.05, -0.02, -0.2], "high": [0.15, 0.02, -0.05]},
        index=["recall@1", "recall@10", "ndcg@10"],
    )
    colours = figures.differences(frame, "mine", "yours").data[0].marker.color
    assert len(set(colours)) == 3
    assert figures.differences(frame.assign(low=-1.0, high=1.0), "mine", "yours").data[0].marker.color[0] == colours[1]


def test_slices_of_two_systems_do_not_cover_each_other():
    frame = pd.DataFrame(
        {
            "slice": ["length", "length", "new"],
            "group": ["1-5", "6-9", "new"],
            "users": [5, 6, 7],
            "mean": 0.1,
            "low": 0.0,
            "high": 0.2,
        }
    )
    dots = [trace for trace in figures.slices({"a": frame, "b": frame}).data if trace.mode == "markers"]
    assert [trace.name for trace in dots] == ["a", "b"]
    assert not set(dots[0].y) & set(dots[1].y)
    assert len(figures.slices({"a": frame}, only="new").data[0].x) == 1


def test_the_best_epoch_is_marked_and_systems_without_epochs_have_a_message():
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "ndcg@10": [0.1, 0.3, 0.2]})
    figure = figures.training_curve(history)
    assert list(figure.data[-1].x) == [2]
    assert "epoch 2" in figure.layout.annotations[-1].text
    assert "counts once" in figures.training_curve(pd.DataFrame([])).layout.annotations[0].text


def attention_frame(count, layers=1, heads=1):
    weights = np.tril(np.random.default_rng(0).random((layers, heads, count, count)))
    weights /= weights.sum(-1, keepdims=True)
    index = pd.MultiIndex.from_product([range(n) for n in weights.shape], names=["layer", "head", "query", "key"])
    return pd.DataFrame({"value": weights.ravel()}, index=index).reset_index()


def worth(count):
    return pd.DataFrame({"position": range(count), "value": np.linspace(-1, 1, count)})


def test_attention_has_a_column_per_query_and_hides_the_causal_mask():
    frame = attention_frame(5)
    figure = figures.attention(frame, worth(5), ["a"] * 5)
    grid = np.array(figure.data[0].z, dtype=float)
    assert np.allclose(np.nansum(grid, axis=0), 1)
    assert np.isnan(grid[4, 0])
    assert not np.isnan(grid[0, 4])
    assert len(figure.layout.yaxis.ticktext) == 5  # titles that are alike keep a row each


def test_bidirectional_attention_is_shown_whole():
    frame = attention_frame(4)
    frame["value"] = 0.25
    assert not np.isnan(np.array(figures.attention(frame, worth(4), list("abcd")).data[0].z, dtype=float)).any()


def test_attention_grid_shows_all_heads_on_one_scale():
    figure = figures.attention_grid(attention_frame(6, 2, 3), worth(6), list("abcdef"), "caption")
    assert [trace.type for trace in figure.data].count("heatmap") == 6
    assert {trace.coloraxis for trace in figure.data if trace.type == "heatmap"} == {"coloraxis"}


def test_influences_have_a_panel_per_measure_and_a_row_per_history():
    rows = pd.concat(
        [worth(4).assign(history=history, panel=panel, unit="nats") for history in ("x", "y") for panel in "pq"]
    )
    figure = figures.influences(rows, {"x": list("abcd"), "y": list("efgh")})
    assert len(figure.data) == 4
    assert figure.data[0].marker.color[0] != figure.data[0].marker.color[-1]  # what holds back looks different


def items(count=40):
    titles = (HOSTILE * count)[:count]
    return pd.DataFrame(
        {
            "x": np.arange(count, dtype=float),
            "y": 0.0,
            "title": titles,
            "kind": [f"<u>k{i % 15}</u>" for i in range(count)],
            "sold": np.arange(count) ** 3,
        },
        index=pd.RangeIndex(1, count + 1, name="item"),
    )


@pytest.mark.parametrize("color", ["kind", "sold"])
def test_map_draws_every_item_once_with_its_id(color):
    figure = figures.item_map(items(), color, picked=3, neighbours=[1, 2])
    assert len(figure.data) == 13
    assert sorted(int(item) for trace in figure.data[:-2] for item in trace.customdata) == list(range(1, 41))
    assert list(figure.data[-1].x) == [2.0]
    if color == "kind":
        assert figure.data[10].name.startswith("other (")


def test_map_of_an_unknown_column_names_those_there_are():
    with pytest.raises(KeyError, match="kind"):
        figures.item_map(items(), "colour")


def every_figure():
    count = len(HOSTILE)
    near = pd.DataFrame({"item": range(1, count + 1), "title": HOSTILE, "cosine": 0.5})
    rows = worth(count).assign(history=HOSTILE[0], panel=HOSTILE[1], unit=HOSTILE[0])
    yield figures.attention(attention_frame(count), worth(count), HOSTILE)
    yield figures.attention_grid(attention_frame(count), worth(count), HOSTILE)
    yield figures.influences(rows, {HOSTILE[0]: HOSTILE})
    yield figures.item_map(items(), "kind")
    yield figures.item_map_with_neighbours(items(), "kind", {1: near})
    yield figures.scoreboard(board())


def test_no_title_becomes_markup_in_a_figure():
    for figure in every_figure():
        text = json.dumps(figure.to_plotly_json(), default=lambda array: array.tolist(), ensure_ascii=False)
        for tag in ("<script", "<b>bold", "<i>mine", "<u>k"):
            assert tag not in text
        assert "&lt;" in text
        assert "\u202e" not in text


def test_a_verdict_is_a_word_not_only_a_colour():
    rows = [(name, float("nan"), name, "s") for name in ("fine", "look", "trap")]
    body = figures.smells(pd.DataFrame(rows, columns=["smell", "value", "verdict", "sentence"]))
    for words in ("✓ fine", "● look", "▲ trap"):
        assert words in body
    assert "nan" not in body


def test_arrows_say_what_moved():
    rows = [
        (1, "a", 1, 0, "same"),
        (2, "b", 5, 3, "up"),
        (3, "c", 2, -1, "down"),
        (4, "d", 30, 26, "new"),
        (17, "e", 3, -14, "left"),
        (float("nan"), "f", 4, float("nan"), "filtered"),
    ]
    frame = pd.DataFrame(rows, columns=["rank", "title", "was", "moved", "status"])
    body = figures.top_tens({"now": frame})
    for words in ("▲ 3", "▼ 1", "NEW", "▲ 26", "▼ 14", "was 3", "in the history now"):
        assert words in body


@given(st.text(max_size=400), st.integers(1, 80))
def test_a_label_is_one_line_of_at_most_so_many_characters_without_tags(text, most):
    import html

    shown = label(text, most)
    assert len(html.unescape(shown)) <= max(most, len("(no title)"))
    assert not set("<>\n\r\t\u202e") & set(shown)
    assert plain(text)
    assert plain(plain(text)) == plain(text)
