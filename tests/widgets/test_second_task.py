"""Systems compared by a task without ranks: unbounded metrics, less is better, several queries per user."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import evaluation, figures, widgets
from seqlab.evaluation import Metric, Outcome, Slice
from seqlab.runs.run import Run
from tests.widgets.markup import Page, page

NATS, ERROR = Metric("nats", True, -np.inf, np.inf), Metric("error", False, 0.0, np.inf)
METRICS = ("error", "nats")  # the primary one last


class Clock(torch.nn.Module):
    """A system that recommends nothing."""

    def loss(self, batch):
        raise AssertionError


@pytest.fixture(scope="module")
def twice(split):
    """The split with two test queries per user, not in the order of their ids."""
    rows = torch.arange(len(split.test)).repeat(2)
    ids = torch.cat([torch.arange(1, 2 * len(split.test), 2), torch.arange(0, 2 * len(split.test), 2)])
    return replace(split, test=replace(split.test.select(rows), id=ids))


def run_of(name, split, nats, error):
    test = split.test
    frame = pd.DataFrame(
        {
            "query": test.id.numpy(),
            "user": test.user.numpy(),
            "item": test.item.numpy(),
            "weekend": np.arange(len(test)) % 4 < 2,
            "history_length": (test.end - test.start).numpy(),
            "nats": nats,
            "error": error,
        }
    )
    slices = {"history_length": Slice("history length", "events"), "weekend": Slice("day", yes="weekend", no="week")}
    outcome = Outcome("waits", frame, (NATS, ERROR), "nats", ("nats", "error"), "80 waits", slices=slices)
    means = outcome.means()
    metrics = {"test": means, "valid": means, "parameters": 5, "seconds": 1.0, "best_epoch": 1}
    return Run(name, Clock(), metrics, outcome)


@pytest.fixture(scope="module")
def waits(twice):
    """Three systems: the late one is worst by either metric, and the wild one is much better for some queries."""
    random, count = np.random.default_rng(0), len(twice.test)
    base = random.normal(-2.0, 0.3, count)
    return {
        "early": run_of("early", twice, base, np.abs(base)),
        "late": run_of("late", twice, base - 0.5, np.abs(base) + 1),
        "wild": run_of("wild", twice, base + random.normal(0, 0.2, count), np.abs(base)),
    }


@pytest.fixture
def compared(waits, twice, live):
    return widgets.CompareSystems(waits, twice, "early", selection=widgets.Selection(twice))


def press(widget, key):
    widget.table._handle_custom_msg({"press": key}, [])
    assert not widget.status.view.value, widget.status.view.value


def test_the_better_system_stands_first_and_signs_say_which_that_is(compared):
    assert compared.metrics == METRICS
    assert compared.board()["system"].tolist()[-1] == "late"
    words = page(compared).words
    assert "▼ -0.5000" in words
    assert "▼ +1.0000" in words  # more of the error is worse
    assert "Of error less is better" in words
    assert "80 waits" in words and "ranks" not in words
    compared.compare_with("late")
    words = page(compared).words
    assert "▲ +0.5000" in words and "▲ -1.0000" in words


def test_there_is_nothing_about_ranks(compared):
    assert not any(key.startswith("system:") for key in page(compared).buttons)
    assert "not measured by ranks" in compared.curves().layout.annotations[0].text
    assert "not measured: " in compared.costs("milliseconds").layout.annotations[0].text


def test_scales_are_those_of_the_values_and_the_plot_says_which_side_is_better(compared):
    low, high = compared.costs("parameters", "nats").layout.yaxis.range
    assert -3.2 < low < high < -1.5
    compared.quality.value = "error"
    assert "down and to the left" in compared._costs_words.value
    assert "less is better" in compared.figure.layout.yaxis.title.text
    assert compared.figure.layout.yaxis.range[0] > 1


def test_groups_count_users_and_their_list_has_a_row_per_query(compared, twice):
    row = compared.board()["system"].tolist().index("late")
    press(compared, f"cell:{row}:0")
    groups = compared.slices("late", "error")
    assert groups["users"].iloc[0] == len(twice.test) // 2
    weekend = groups.index[groups["group"] == "weekend"][0]
    press(compared, f"group:{weekend}")
    listed = compared.users("late", "error", compared.group)
    expected = compared.runs["late"][0].outcome.frame.query("weekend")
    assert len(listed) == len(expected)
    assert f"{expected['user'].nunique()} users with {len(expected)} queries" in page(compared).words
    assert "error in" in page(compared).words and "rank in" not in page(compared).words
    assert set(compared.selection.now.users) == set(expected["user"])
    np.testing.assert_allclose(listed["a"] - listed["b"], 1.0)
    press(compared, "user:1")
    assert compared.selection.now.users.tolist() == [listed["user"].iat[1]]


def test_users_whom_the_system_serves_better_come_first_where_less_is_better(waits, twice, report):
    better = replace(waits["wild"], outcome=replace(waits["wild"].outcome, primary="error"))
    early = replace(waits["early"], outcome=replace(waits["early"].outcome, primary="error"))
    frame = better.outcome.frame
    better = replace(better, outcome=replace(better.outcome, frame=frame.assign(error=frame["error"] - frame["query"])))
    found = widgets.CompareSystems({"wild": better, "early": early}, twice, "early")
    assert found.metrics == ("nats", "error")
    assert found.board()["system"].tolist() == ["wild", "early"]
    assert found.users("wild", "error")["difference"].is_monotonic_increasing
    assert found.users("wild", "error", order="reference")["difference"].is_monotonic_decreasing
    still = Page(found.still().markup).words
    assert "less is better" in still and "✓" not in still


def test_figures_take_directions_and_scales_from_the_outcome(waits):
    intervals = {name: evaluation.intervals(run.outcome) for name, run in waits.items()}
    board = figures.scoreboard(intervals)
    assert list(board.layout.yaxis.ticktext) == ["late", "wild", "early"]  # by the primary metric; the best on top
    assert board.layout.xaxis.range[0] > 0 and board.layout.xaxis2.range[1] < 0
    assert board.layout.annotations[0].text == "error<br>less is better"
    lacking = figures.scoreboard(intervals | {"other": intervals["late"].drop("error")})
    assert [one.text for one in lacking.layout.annotations] == ["nats"]
    by_error = figures.scoreboard(intervals, ("error",))
    assert by_error.layout.yaxis.ticktext[0] == "late"
    difference = figures.differences(evaluation.compare(waits["late"].outcome, waits["early"].outcome), "late", "early")
    dots = [trace for trace in difference.data if trace.mode == "markers"]
    assert [trace.marker.color for trace in dots] == [(figures.theme.PALETTE[4],)] * 2  # worse by both
    assert dots[0].xaxis != dots[1].xaxis
    sliced = figures.slices({"late": evaluation.slices(waits["late"].outcome, "error")})
    assert sliced.layout.xaxis.range[0] > 0 and "less is better" in sliced.layout.xaxis.title.text


def test_the_list_of_users_has_the_metric_and_a_browser_of_ranks_refuses(waits, twice, live):
    run = waits["late"]
    found = widgets.UserList(twice, widgets.Selection(twice), run)
    assert found.orders["nats"] == "nats, best first"
    found.order.value = "nats"
    mean = run.outcome.frame.groupby("user")["nats"].mean().sort_values(ascending=False)
    assert found.frame().index.tolist() == mean.index.tolist()
    assert f"nats {mean.iloc[0]:.4g}" in found.listed.options[0][0]
    with pytest.raises(ValueError, match="measured by waits, which ranks no items"):
        widgets.UserBrowser(run, twice)


def test_a_browser_shows_the_first_query_of_each_user(run, twice, split, report):
    frame = run.outcome.frame
    again = pd.concat([frame.assign(query=2 * frame["query"] + 1), frame.assign(query=2 * frame["query"], rank=99.0)])
    several = replace(run, outcome=replace(run.outcome, frame=again))
    first, whole = widgets.UserBrowser(run, split), widgets.UserBrowser(several, twice)
    assert sorted(whole._order) == sorted(first._order)
    assert [whole.card(user) for user in first._order[:5]] == [first.card(user) for user in first._order[:5]]
