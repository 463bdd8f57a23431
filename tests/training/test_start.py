"""A training that begins from another run: its weights, its identity, a further part of a log, other items."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter

import numpy as np
import pytest
import torch

import seqlab
from seqlab import datasets, load_run, models
from seqlab.datasets import leave_one_out
from seqlab.optimization.checkpoint import Checkpoint
from seqlab.optimization.options import Options
from seqlab.runs import find
from seqlab.runs.identity import stored_identity
from seqlab.runs.start import fingerprint
from seqlab.training.fit import fit
from seqlab.widgets import CompareSystems
from tests.synthetic import chain_histories, chain_log, log_of, small

torch.set_num_threads(1)

BRIEF = Options(epochs=2, tokens=64, learning_rate=5e-3, warmup=5, seed=7)
DAY = 86_400.0
MONTHS = ("1970-01-05", "1970-01-09", "1970-01-12")
"""The first part of the log ends at the first of these days, the second one at the second."""


@pytest.fixture(scope="module")
def log():
    """One log of days, whose items have one numbering in all its parts."""
    histories = chain_histories(3, users=30)
    times = [[DAY * at + (997 * user + 131 * at) % 7_001 for at in range(len(items))]
             for user, items in enumerate(histories)]  # fmt: skip
    return log_of(histories, times, repeats=True)


@pytest.fixture(scope="module")
def first(log):
    return datasets.split(log, "by-time {} {}".format(*MONTHS[:2]))


@pytest.fixture(scope="module")
def second(log):
    """What came after the first part."""
    return datasets.split(log, "by-time {1} {2} {0}".format(*MONTHS))


@pytest.fixture(scope="module")
def both(log):
    return datasets.split(log, "by-time {} {}".format(*MONTHS[1:]))


def new(system="sasrec", **settings):
    return models.build(system, 24, small(system, **settings), seed=1)


def same(one, other):
    one, other = (run.model.state_dict() for run in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def january(first, tmp_path_factory):
    return fit(new(), first, BRIEF, tmp_path_factory.mktemp("runs") / "january")


@pytest.fixture(scope="module")
def february(second, january):
    """The second part, from the weights of the first; and beside it, for `find`."""
    return fit(new(), second, BRIEF, january.folder.with_name("february"), start=january)


def test_the_parts_of_a_log_by_time_share_its_items_and_no_event(first, second, both):
    assert second.name == "by-time 1970-01-09 1970-01-12 1970-01-05"
    rows = [list(zip(*(part.tolist() for part in (split.train.users, split.train.times)), strict=True))
            for split in (first, second, both)]  # fmt: skip
    assert sorted(rows[0] + rows[1]) == sorted(rows[2]) and rows[0] and rows[1]
    lengths = second.test.end - second.test.start
    assert int(lengths.min()) > int(second.train.lengths.max()), "the history of a query is complete"


def test_training_begins_from_the_weights_of_the_start(first, second, january, monkeypatch):
    before, seen = {name: x.clone() for name, x in january.model.state_dict().items()}, []
    model = new()
    loss = model.loss
    monkeypatch.setattr(
        model,
        "loss",
        lambda batch: (seen.append({k: x.clone() for k, x in model.state_dict().items()}), loss(batch))[1],
    )
    run = fit(model, second, BRIEF, start=january)
    assert all(torch.equal(seen[0][name], before[name]) for name in before)
    assert all(torch.equal(x, before[name]) for name, x in january.model.state_dict().items()), "the start stays"
    assert not same(run, fit(new(), second, BRIEF))
    assert same(run, fit(new(), second, BRIEF, start=load_run(january.folder, first)))


def test_the_start_is_in_the_provenance_and_identifies_the_run(first, second, january, february):
    weights = hashlib.sha256((january.folder / "model.safetensors").read_bytes()).hexdigest()
    origin = json.loads((february.folder / "provenance.json").read_text(encoding="utf-8"))
    assert origin["start"] == {"weights": weights, "run": "january", "data": "synthetic", "split": first.name}
    assert fingerprint(load_run(january.folder, first).model) == weights == stored_identity(february.folder).start
    again = load_run(february.folder, second)
    assert again.start == february.start and f"from january ({weights[:8]})" in repr(again) == repr(february)
    assert "start" not in stored_identity(january.folder).non_defaults()
    with pytest.raises(ValueError, match=rf"another finished run: begun from the weights {weights[:8]} instead of new"):
        fit(new(), second, BRIEF, february.folder, resume=True)
    with pytest.raises(ValueError, match=r"another finished run: .*begun from new weights instead of the weights"):
        fit(new(), first, BRIEF, january.folder, resume=True, start=february)
    assert same(fit(new(), second, BRIEF, february.folder, resume=True, start=january), february)


def test_a_begun_run_is_found_by_its_start_and_listed_with_it(second, january, february, tmp_path):
    below = february.folder.parent
    assert find.run_folder(below, new(), second, BRIEF, start=january) == february.folder
    fresh = find.run_folder(below, new(), second, BRIEF)
    assert not fresh.exists() and fresh != find.run_folder(tmp_path, new(), second, BRIEF, start=january)
    shown = {one.folder.name: str(one) for one in find.finished_runs(below)}
    assert f", from {february.start} (february)" in shown["february"] and "from" not in shown["january"]
    compared = CompareSystems([fit(new(), second, BRIEF), february], second).configurations()
    assert len(compared) == 2 and compared["training"].str.endswith(f"from {february.start}").tolist() == [False, True]


def test_a_killed_training_resumes_from_its_start_and_from_no_other(second, january, february, tmp_path):
    out, save = tmp_path / "run", Checkpoint.save

    def dying(self, state, *rest):
        save(self, state, *rest)
        raise KeyError("killed")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyError, match="killed"):
        patched.setattr(Checkpoint, "save", dying)
        fit(new(), second, BRIEF, out, start=january)
    for start in (None, february):
        with pytest.raises(ValueError, match="was made with other settings or data"):
            fit(new(), second, BRIEF, out, resume=True, start=start)
    assert same(fit(new(), second, BRIEF, out, resume=True, start=january), february)


def test_what_prepare_initialises_and_codes_that_were_assigned_are_those_of_the_start(first, second):
    for system in ("neural_tpp", "tiger"):  # the first one's `prepare` sets parameters, the second one's stage codes
        begun = fit(new(system), first, BRIEF)
        still = fit(new(system), second, dataclasses.replace(BRIEF, epochs=1, learning_rate=1e-30), start=begun)
        for name, parameter in begun.model.named_parameters():
            torch.testing.assert_close(dict(still.model.named_parameters())[name], parameter)
        if system == "tiger":
            assert torch.equal(still.model.ids.codes, begun.model.ids.codes)


@pytest.mark.parametrize("system", ["popularity", "personal_frequency", "markov"])
def test_counts_of_two_parts_are_those_of_both_at_once(system, first, second, both, tmp_path):
    begun = fit(new(system), first, out=tmp_path / "first")
    run = fit(new(system), second, out=tmp_path / "second", start=load_run(begun.folder, first))
    assert same(load_run(run.folder, second), run) and not same(run, begun)
    whole = new(system)
    if system == "markov":  # a transition between the parts is in neither: the parts are users of their own
        parts = [part.train.history(user).tolist() for part in (first, second) for user in range(1, 31)]
        split = leave_one_out(log_of([list(range(1, 25)), *parts], repeats=True))
        sequences = seqlab.datasets.splits.whole_log(split.log)[0]
        counted = slice(24, None)  # without the first history, which is there for its items
        train = dataclasses.replace(sequences, events=sequences.events[counted], offsets=sequences.offsets[1:] - 24)
        whole.prepare(dataclasses.replace(split, train=train))
    else:
        whole.prepare(both)
    for name, counted in whole.state_dict().items():
        assert torch.equal(counted, run.model.state_dict()[name]), name
    if system == "popularity":
        assert Counter(both.train.items.tolist()) == {i: n for i, n in enumerate(run.model.counts.tolist()) if n}


def test_months_selected_from_a_log_advance_with_one_numbering(log):
    """As `select(keep_numbering=True)` makes them: each one a log of its own, with queries of its own."""
    day = (log.events["timestamp"] // DAY).to_numpy()
    months = [
        log.select(day < 6, "January", keep_numbering=True),
        log.select(day >= 6, "February", keep_numbering=True),
    ]
    january, february = map(leave_one_out, months)
    run = fit(new("popularity"), february, start=fit(new("popularity"), january))
    expected = sum(np.bincount(split.train.items, minlength=25) for split in (january, february))
    assert run.model.counts.tolist() == expected.tolist()
    renumbered = leave_one_out(log.select(log.events["item"].to_numpy() > 3, "without three items"))
    with pytest.raises(ValueError, match=r"weights for the 24 items of synthetic, numbered otherwise than the 21 of"):
        fit(models.build("popularity", 21), renumbered, start=run)


@pytest.mark.parametrize("system", ["personal_frequency", "markov"])
def test_a_run_that_was_saved_without_counts_does_not_advance(system, first, second, tmp_path):
    from safetensors.torch import load_file, save_file

    run = fit(new(system), first, out=tmp_path / "run")
    weights = run.folder / "model.safetensors"
    save_file({name: x for name, x in load_file(weights).items() if name != "counts"}, weights)
    with pytest.raises(ValueError, match=f"this run of {system} was saved without its counts: train it again"):
        fit(new(system), second, start=load_run(run.folder, first))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [(new("gru4rec"), r"gru4rec cannot begin from january: begin from a run of gru4rec"),
     (new(dim=8), r"items.weight is 25 x 32 there and 25 x 8 here\. Take the settings of that run: dim=32\."),
     (new(layers=2), r"blocks.1.* is missing there and .*: layers=1\.")],
)  # fmt: skip
def test_a_start_that_does_not_fit_is_refused_in_a_sentence(model, sentence, second, january):
    with pytest.raises(ValueError, match=sentence):
        fit(model, second, BRIEF, start=january)


def test_a_start_that_would_change_nothing_is_refused(first, second):
    run = fit(new("item_knn"), first)
    with pytest.raises(ValueError, match=r"item_knn is computed from its training part .* leave it out"):
        fit(new("item_knn"), second, start=run)


def test_other_items_are_refused_whose_number_is_the_same(january):
    other = log_of([[item + 100 for item in items] for items in chain_histories(4, users=30)], repeats=True)
    assert other.n_items == 24
    with pytest.raises(ValueError, match=r"numbered otherwise than the 24 of synthetic\. Take parts of one log"):
        fit(new(), leave_one_out(other), BRIEF, start=january)
    assert chain_log(5).n_items == 24  # and other events of the same items are taken
    fit(new(), leave_one_out(chain_log(5)), dataclasses.replace(BRIEF, epochs=1), start=january)
