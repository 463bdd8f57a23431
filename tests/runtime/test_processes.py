"""Two processes train and evaluate as one does; where one of them stops, both do, and say why.

Two real processes, connected on loopback, go through the scenes below once; the tests read what each of them saw.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from seqlab import cli, load_run, models
from seqlab.datasets import leave_one_out
from seqlab.models.encoders import sasrec
from seqlab.optimization.checkpoint import Checkpoint
from seqlab.optimization.options import Options
from seqlab.runtime import processes
from seqlab.tasks import next_item, rank
from seqlab.training import fit as training
from seqlab.training.fit import fit
from tests.synthetic import chain_log, small

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
SPLIT = leave_one_out(chain_log(3, users=30))
OPTIONS = Options(epochs=3, tokens=64, learning_rate=5e-3, warmup=20, patience=4, weight_decay=0.1, seed=7)
FILES = {"config.json", "model.safetensors", "metrics.json", "ranks.parquet", "provenance.json"}
PRESSED = ("pressed in a batch", "pressed between")
LAST = 40
"""Seconds in which a process that lost the other has to be done, on a machine with other work."""

# what each loss is a mean over, and what it takes to draw nothing
ALIKE = {
    "sasrec": {},  # targets
    "bert4rec": {"last_only": 1.0},  # masks: the last item's, whatever is drawn
    "gru4rec": {"loss": "bpr_max"},  # targets, against negatives that `the_same_draw` gives to everybody
    "tiger": {},  # targets, a sum over levels; codes are learnt before
}


def fresh(name="sasrec", **settings):
    return models.build(name, SPLIT.n_items, small(name, dim=16, **settings), seed=1)


@contextlib.contextmanager
def the_same_draw():
    """Whole numbers drawn at random are 1, 2, 3, .. in every row."""

    def counted(low, high, shape, device=None):
        return (low + torch.arange(shape[-1], device=device) % (high - low)).expand(shape)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "randint", counted)
        yield


class Sometimes(sasrec.SASRec):
    """One parameter has a gradient only in the batch, and so in the process, that holds user 1."""

    def __init__(self, config, n_items):
        super().__init__(config, n_items)
        self.rare = nn.Parameter(torch.ones(()))

    def loss(self, batch):
        loss, asked = super().loss(batch), batch.targets > 0
        share = asked[batch.user == 1].sum() / asked.sum()
        return dataclasses.replace(loss, total=loss.total + share * (self.rare - 3) ** 2) if share else loss


class Drawn(nn.Module):
    """Learns something else, of another size, in every process."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"max_length": None})()
        self.register_buffer("table", torch.zeros(0))

    def prepare(self, split):
        generator = torch.Generator().manual_seed(processes.index())
        self.table = torch.rand(split.n_items + 1 + processes.index(), generator=generator)

    def score(self, batch):
        return self.table.repeat(len(batch), 1)


# --- scenes: what both processes do, one after the other. Each gives tensors, and what JSON can hold.


def kept(run):
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
    return dict(run.model.state_dict()), {"history": history, "metrics": run.metrics["test"], "cut": run.interrupted}


def said(act):
    """The error of an act, and how long it took to come."""
    began = time.monotonic()
    try:
        act()
    except (Exception, KeyboardInterrupt) as error:
        return {}, {"kind": type(error).__name__, "text": str(error), "seconds": time.monotonic() - began}
    return {}, {}


def alike(name):
    with the_same_draw():
        return kept(fit(fresh(name, **ALIKE[name]), SPLIT, OPTIONS))


def one_row(folder=None):
    """Batches of a row or two: the second process often has none."""
    return kept(fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=1, tokens=16)))


def sometimes(folder=None):
    torch.manual_seed(processes.index())  # what fit makes equal
    return kept(fit(Sometimes(fresh().config, SPLIT.n_items), SPLIT, dataclasses.replace(OPTIONS, epochs=2)))


def sometimes_alone():
    torch.manual_seed(0)
    return sometimes()


def prepared(folder=None):
    model = Drawn()
    fit(model, SPLIT, OPTIONS)
    return {"table": model.table}, {}


def ranked(name):
    """Ranks of an untrained system, in many batches."""
    model, tensors = fresh(name), {}
    training.prepare(model, SPLIT)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(next_item, "MAX_TOKENS", 24)
        for seen_filter in (False, True):
            ranks = rank(model, SPLIT, "test", seen_filter)
            columns = {column: torch.tensor(ranks.frame[column].to_numpy()) for column in ranks.frame}
            tensors |= {f"{column} {seen_filter}": values for column, values in columns.items()}
            tensors[f"exposure {seen_filter}"] = ranks.exposure
    return tensors, {}


def noisy():
    return fresh(dropout=0.2)


def straight(folder):
    """With dropout; and which seeds were drawn by."""
    model, seeds = noisy(), []
    loss = model.loss

    def noting(batch):
        seeds.append(torch.initial_seed())
        return loss(batch)

    model.loss = noting
    tensors, told = kept(fit(model, SPLIT, OPTIONS))
    return tensors, told | {"seeds": sorted(set(seeds))}


def killed_and_resumed(folder):
    """With dropout: the first process fails after the second epoch, both stop, and both go on."""
    save, out = Checkpoint.save, folder / "resumed"

    def dying(self, state, *rest):
        save(self, state, *rest)
        if state.epoch == 2:
            raise LookupError("killed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "save", dying)
        _, error = said(lambda: fit(noisy(), SPLIT, OPTIONS, out))
    between = sorted(path.name for path in folder.glob("resumed*"))
    tensors, told = kept(fit(noisy(), SPLIT, OPTIONS, out, resume=True))
    again = load_run(out, SPLIT).metrics["test"]
    read = fit(noisy(), SPLIT, OPTIONS, out, resume=True).metrics["test"]
    return tensors, told | {"error": error, "between": between, "again": again, "read": read}


def pressed(folder, where="pressed in a batch"):
    """Ctrl-C reaches the second process alone: in the third epoch, or right before it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, such as this suite, ignores it
    model, calls, metrics = noisy(), iter(range(10_000)), training.metrics
    loss, due = model.loss, 1 if where == "pressed between" else 2 * steps_of(OPTIONS) + 2

    def press(act, given):
        if next(calls) == due and processes.index() == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return act(given)

    with pytest.MonkeyPatch.context() as patched:
        if where == "pressed between":  # after the ranks of the second epoch
            patched.setattr(training, "metrics", lambda ranks: press(metrics, ranks))
        else:
            model.loss = lambda batch: press(loss, batch)
        return kept(fit(model, SPLIT, OPTIONS, folder / where))


def steps_of(options):
    return sum(1 for _ in SPLIT.train.training_batches(8, options.tokens, 0))


def failing(change, out=None):
    """A training in which the loss of the second process is changed from the second epoch on."""
    model, calls = fresh(), iter(range(10_000))
    loss = model.loss

    def changed(batch):
        found = loss(batch)
        return change(found) if next(calls) > steps_of(OPTIONS) and processes.index() == 1 else found

    model.loss = changed
    return said(lambda: fit(model, SPLIT, OPTIONS, out))


def wrong(folder):
    def fail(found):
        raise ValueError("the second process cannot go on")

    return failing(fail)


def not_finite(folder):
    return failing(lambda found: dataclasses.replace(found, total=found.total * float("nan")), folder / "not_finite")


def not_finite_scores(folder):
    """Only one user's, so only one process meets them."""
    model = fresh()
    score = model.score

    def spoiled(batch):
        return score(batch).masked_fill((batch.user == 1)[:, None], torch.nan)

    model.score = spoiled
    return said(lambda: rank(model, SPLIT))


def full_disk(folder):
    def refused(*anything):
        raise OSError("no space left")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "_write", refused)
        return said(lambda: fit(fresh(), SPLIT, OPTIONS, folder / "full"))


def taken(folder):
    """The folder is being written by another training."""
    with training._lock(folder / "taken") if processes.index() == 0 else contextlib.nullcontext():
        return said(lambda: fit(fresh(), SPLIT, OPTIONS, folder / "taken"))


def unlike(folder):
    return said(lambda: fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, tokens=64 + processes.index())))


def lost(folder):
    """The second process is killed in its second epoch; this must be the last scene."""
    return failing(lambda found: os.kill(os.getpid(), signal.SIGKILL), folder / "lost")


SCENES = {f"alike {name}": lambda folder, name=name: alike(name) for name in ALIKE}
SCENES |= {f"ranked {name}": lambda folder, name=name: ranked(name) for name in ("sasrec", "tiger")}
SCENES |= {where: lambda folder, where=where: pressed(folder, where) for where in PRESSED}
SCENES |= {
    scene.__name__: scene
    for scene in (
        straight, one_row, sometimes, prepared, killed_and_resumed, wrong, not_finite, not_finite_scores, full_disk,
        taken, unlike, lost,
    )
}  # fmt: skip


def act(folder: Path) -> None:
    """What each of the two processes runs."""
    processes.start()
    for name, scene in SCENES.items():
        began = time.monotonic()
        tensors, told = scene(folder)
        stem = f"{name} {processes.index()}"
        save_file({key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}, folder / f"{stem}.sf")
        told["took"] = time.monotonic() - began
        (folder / f"{stem}.json").write_text(json.dumps(told), encoding="utf-8")


# --- the tests


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys, pathlib; from tests.runtime import test_processes as t; "
               "t.act(pathlib.Path(sys.argv[1]))", str(folder)]  # fmt: skip
    actors = []
    for index in ("0", "1"):
        world = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        with (folder / f"stdout {index}").open("w") as out, (folder / f"stderr {index}").open("w") as errors:
            actors.append(subprocess.Popen(command, stdout=out, stderr=errors, cwd=ROOT, env=os.environ | world))
    try:
        codes = [actor.wait(timeout=400) for actor in actors]
    finally:
        for actor in actors:
            actor.kill()
    assert codes == [0, -signal.SIGKILL], (folder / "stderr 0").read_text() + (folder / "stderr 1").read_text()
    return folder


@pytest.fixture
def seen(stage):
    """What the first and the second process got from a scene: tensors, and the rest."""

    def read(name):
        return [(load_file(stage / f"{name} {index}.sf"), json.loads((stage / f"{name} {index}.json").read_text()))
                for index in (0, 1)]  # fmt: skip

    return read


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_alike(found, expected):
    """Losses and weights agree but for rounding.

    Not so the biases of attention's keys: a softmax does not see them, so their gradient is nothing but rounding, which
    Adam makes as large as any other.
    """
    (weights, told), (expected_weights, expected_told) = found, expected
    for row, other in zip(told["history"], expected_told["history"], strict=True):
        assert row["steps"] == other["steps"] and row["loss"] == pytest.approx(other["loss"], rel=1e-6)
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        other = expected_weights[name]
        if name.endswith("attention.project_in.bias"):
            (query, _, value), (its_query, _, its_value) = weight.chunk(3), other.chunk(3)
            weight, other = torch.cat([query, value]), torch.cat([its_query, its_value])
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_train_as_one_with_the_same_batches_does(name, seen):
    first, second = seen(f"alike {name}")
    assert same_bits(first[0], second[0]) and first[1]["history"] == second[1]["history"]
    assert first[1]["metrics"] == second[1]["metrics"]
    assert_alike(first, alike(name))


def test_a_process_without_rows_waits_for_nobody_and_changes_nothing(seen):
    first, second = seen("one_row")
    assert same_bits(first[0], second[0])
    assert_alike(first, one_row())
    rows = [len(batch) for batch in SPLIT.train.training_batches(8, 16, 0, (1, 2))]
    assert 0 in rows and max(rows) > 0


def test_a_parameter_without_a_gradient_in_a_process_is_trained_as_in_one(seen):
    first, second = seen("sometimes")
    assert same_bits(first[0], second[0])
    assert first[0]["rare"] != 1.0
    assert_alike(first, sometimes_alone())


def test_all_begin_with_what_the_first_has_learnt(seen):
    first, second = seen("prepared")
    expected = torch.rand(SPLIT.n_items + 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first[0]["table"], expected) and torch.equal(second[0]["table"], expected)


@pytest.mark.parametrize("name", ["sasrec", "tiger"])
def test_an_evaluation_by_two_is_that_by_one_bit_for_bit(name, seen):
    expected, _ = ranked(name)
    for found, _ in seen(f"ranked {name}"):
        assert same_bits(found, expected)


def test_two_processes_draw_for_themselves_and_the_same_every_time(seen):
    straight, resumed = seen("straight"), seen("killed_and_resumed")
    assert same_bits(straight[0][0], straight[1][0])
    assert same_bits(straight[0][0], resumed[0][0]) and same_bits(straight[0][0], resumed[1][0])
    assert straight[0][1]["history"] == resumed[0][1]["history"]
    for index in (0, 1):  # as the docstring of fit says
        assert straight[index][1]["seeds"] == [7 * 1_000_003 + epoch + 7_919 * index for epoch in range(3)]


def test_killed_they_go_on_from_one_checkpoint_to_one_folder(seen, stage):
    first, second = (told for _, told in seen("killed_and_resumed"))
    assert first["error"]["kind"] == "LookupError" and second["error"]["kind"] == "ConnectionAbortedError"
    assert "Process 0 of 2 (the first is 0) stopped them all. LookupError: killed" in second["error"]["text"]
    assert first["between"] == ["resumed.partial"]
    assert {path.name for path in (stage / "resumed").iterdir()} == FILES
    assert not list(stage.glob("resumed.*"))
    for told in (first, second):
        assert told["metrics"] == told["again"] == told["read"]
    origin = json.loads((stage / "resumed" / "provenance.json").read_text())
    assert origin["processes"] == 2


@pytest.mark.parametrize("where", PRESSED)
def test_ctrl_c_in_one_stops_both_with_the_best_epoch(where, seen, stage):
    first, second = seen(where)
    assert first[1]["cut"] and second[1]["cut"] and same_bits(first[0], second[0])
    assert len(first[1]["history"]) == 2
    assert not (stage / where).exists() and (stage / f"{where}.partial" / "checkpoint").is_dir()
    assert (stage / "stdout 0").read_text().count("Stopped in epoch 3: the best epoch so far") == len(PRESSED)


def test_an_error_in_one_stops_both_at_that_step(seen):
    (_, first), (_, second) = seen("wrong")
    assert second["kind"] == "ValueError" and second["text"] == "the second process cannot go on"
    assert first["kind"] == "ConnectionAbortedError"
    assert first["text"].endswith("Process 1 of 2 (the first is 0) stopped them all. ValueError: " + second["text"])


def test_a_loss_that_is_not_finite_in_one_stops_both_with_the_same_sentence(seen, stage):
    (_, first), (_, second) = seen("not_finite")
    assert first["kind"] == second["kind"] == "FloatingPointError" and first["text"] == second["text"]
    assert "not finite (nan) in epoch 2" in first["text"] and first["text"].endswith("of epoch 1 is kept.")
    assert (stage / "not_finite.partial" / "checkpoint" / "state.safetensors").is_file()


@pytest.mark.parametrize(
    ("scene", "kind", "text"),
    [
        ("not_finite_scores", "ValueError", "gave scores that are not finite"),
        ("full_disk", "OSError", "could not be written (no space left)"),
        ("taken", "BlockingIOError", "Another training is writing"),
    ],
)
def test_what_stops_one_process_is_told_to_the_other(scene, kind, text, seen):
    found = sorted((told for _, told in seen(scene)), key=lambda told: told["kind"] == "ConnectionAbortedError")
    assert [told["kind"] for told in found] == [kind, "ConnectionAbortedError"]
    assert all(text in told["text"] for told in found)


def test_processes_with_other_settings_do_not_train(seen):
    for _, told in seen("unlike"):
        assert told["kind"] == "ValueError" and "different data or settings" in told["text"]


def test_only_the_first_process_talks(stage):
    assert "epoch 1/3: loss" in (stage / "stdout 0").read_text()
    assert (stage / "stdout 1").read_text() == ""


def test_when_one_is_killed_the_other_says_so_and_one_can_go_on_alone(stage):
    told = json.loads((stage / "lost 0.json").read_text())
    assert told["kind"] == "ConnectionAbortedError" and told["seconds"] < LAST
    assert "Process 0 of 2 (the first is 0) lost the others: one of them has ended" in told["text"]
    assert not (stage / "lost").exists() and not (stage / "lost.lock").exists()
    straight = fit(fresh(), SPLIT, OPTIONS)
    assert_alike(kept(fit(fresh(), SPLIT, OPTIONS, stage / "lost", resume=True)), kept(straight))


def test_the_command_in_the_readme_trains_by_two_processes(tmp_path):
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("torchrun "))
    chain_log().events.to_csv(tmp_path / "log.csv", index=False)
    home = Path(sys.executable).parent
    world = {"PATH": f"{home}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        line.split("  #")[0], shell=True, cwd=tmp_path, env=os.environ | world, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = tmp_path / re.search(r"--out (\S+)", line)[1]
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "provenance.json").read_text())["processes"] == 2
    assert done.stdout.count("Run(sasrec") == 1 and done.stdout.count("epoch 1/") == 1


def test_torchrun_of_another_command_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["seqlab", "leaderboard", "popularity"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "torchrun is for `fit`; `leaderboard` would do its work once in every process" in capsys.readouterr().err


# a batch dealt out to several processes, seen from one

EXACT = {
    "bert4rec": {"last_only": 1.0},
    "discrec": {},
    "gru4rec": {},
    "mancar": {"cuts": 1000},  # all there are
    "rearec": {"objective": "last"},
    "recgpt": {},
    "reg4rec": {"order": "fixed", "align": 0.0},
    "resid": {},
    "sasrec": {},
    "sasrec_side": {},
    "setrec": {},
    "tiger": {},
}


@pytest.mark.parametrize("name", [name for name in models.names() if hasattr(models.system(name), "loss")])
def test_the_loss_of_a_batch_is_that_of_its_shares_weighed_by_what_they_are_means_of(name):
    if name not in EXACT:
        pytest.skip("no settings are known here under which this system draws nothing")
    model = fresh(name, **EXACT[name])
    training.prepare(model, SPLIT)

    def of(share):
        batch = next(SPLIT.train.training_batches(8, 200, 0, share))
        loss = model.loss(batch)
        return loss.total.item(), int((batch.targets > 0).sum()) if loss.count is None else loss.count

    (whole, count), shares = of((0, 1)), [of((index, 3)) for index in range(3)]
    assert sum(own for _, own in shares) == count
    assert sum(total * own for total, own in shares) / count == pytest.approx(whole, rel=1e-5)
