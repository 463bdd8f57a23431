"""Training and evaluation by two processes: results equal those of one; an error in one stops both.

Two real processes, connected on loopback, run the scenes below once; the tests read the results of each.
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
from seqlab.contracts import Learns, supports
from seqlab.datasets import leave_one_out
from seqlab.models.encoders import sasrec
from seqlab.optimization.checkpoint import Checkpoint
from seqlab.optimization.options import Options
from seqlab.runtime import processes
from seqlab.tasks import measure, next_item
from seqlab.training import fit as training
from seqlab.training import validation
from seqlab.training.fit import fit
from tests.synthetic import chain_log, small

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
SPLIT = leave_one_out(chain_log(3, users=30))
OPTIONS = Options(epochs=3, tokens=64, learning_rate=5e-3, warmup=20, patience=4, weight_decay=0.1, seed=7)
FILES = {"config.json", "model.safetensors", "metrics.json", "outcome.parquet", "provenance.json"}
PRESSED = ("pressed in a batch", "pressed between")
LAST = 40
"""Seconds after which a process must have noticed that the other has ended, on a busy machine."""

# settings without random numbers, and what each loss is a mean over
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
    """`torch.randint` returns 1, 2, 3, .. in every row."""

    def counted(low, high, shape, device=None):
        return (low + torch.arange(shape[-1], device=device) % (high - low)).expand(shape)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "randint", counted)
        yield


class Sometimes(sasrec.SASRec):
    """One parameter has a gradient only in the batch, and so in the process, that holds user 1; a buffer is drawn."""

    def __init__(self, config, n_items):
        super().__init__(config, n_items)
        self.rare = nn.Parameter(torch.ones(()))
        self.register_buffer("drawn", torch.zeros(3))

    def begin_epoch(self, train, epoch):
        self.drawn.copy_(torch.rand(3))

    def loss(self, batch):
        loss, has_target = super().loss(batch), batch.targets > 0
        share = has_target[batch.user == 1].sum() / has_target.sum()
        return dataclasses.replace(loss, total=loss.total + share * (self.rare - 3) ** 2) if share else loss


class Drawn(nn.Module):
    """Prepares a different buffer, of a different size, in every process."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"max_length": None})()
        self.register_buffer("table", torch.zeros(0))

    def prepare(self, split):
        generator = torch.Generator().manual_seed(processes.index())
        self.table = torch.rand(split.n_items + 1 + processes.index(), generator=generator)

    def score(self, batch):
        return self.table.repeat(len(batch), 1)


# --- scenes: both processes run them one after the other; each returns tensors and a JSON object


def kept(run):
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
    return dict(run.model.state_dict()), {"history": history, "metrics": run.metrics["test"], "cut": run.interrupted}


def error_of(act):
    """The error that a call raises, and after how many seconds."""
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
            ranks = measure(model, SPLIT, "test", seen_filter)
            columns = {column: torch.tensor(ranks.frame[column].to_numpy()) for column in ranks.frame}
            tensors |= {f"{column} {seen_filter}": values for column, values in columns.items()}
            tensors[f"lists {seen_filter}"] = torch.tensor([*ranks.summary.values()])
    return tensors, {}


def noisy():
    return fresh(dropout=0.2)


def straight(folder):
    """With dropout; records the seeds."""
    model, seeds = noisy(), []
    loss = model.loss

    def noting(batch):
        seeds.append(torch.initial_seed())
        return loss(batch)

    model.loss = noting
    tensors, info = kept(fit(model, SPLIT, OPTIONS))
    return tensors, info | {"seeds": sorted(set(seeds))}


def killed_and_resumed(folder):
    """With dropout: the first process fails after the second epoch, both stop, and both resume."""
    save, out = Checkpoint.save, folder / "resumed"

    def dying(self, state, *rest):
        save(self, state, *rest)
        if state.epoch == 2:
            raise LookupError("killed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "save", dying)
        _, error = error_of(lambda: fit(noisy(), SPLIT, OPTIONS, out))
    between = sorted(path.name for path in folder.glob("resumed*"))
    tensors, info = kept(fit(noisy(), SPLIT, OPTIONS, out, resume=True))
    again = load_run(out, SPLIT).metrics["test"]
    read = fit(noisy(), SPLIT, OPTIONS, out, resume=True).metrics["test"]
    return tensors, info | {"error": error, "between": between, "again": again, "read": read}


def pressed(folder, where="pressed in a batch"):
    """Ctrl-C reaches only the second process: in the third epoch, or right before it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, such as this suite, ignores it
    model, calls, metrics = noisy(), iter(range(10_000)), validation.metrics
    loss, due = model.loss, 1 if where == "pressed between" else 2 * steps_of(OPTIONS) + 2

    def press(act, given):
        if next(calls) == due and processes.index() == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return act(given)

    with pytest.MonkeyPatch.context() as patched:
        if where == "pressed between":  # after the ranks of the second epoch
            patched.setattr(validation, "metrics", lambda ranks: press(metrics, ranks))
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
    return error_of(lambda: fit(model, SPLIT, OPTIONS, out))


def wrong(folder):
    def fail(found):
        raise ValueError("the second process cannot go on")

    return failing(fail)


def not_finite(folder):
    return failing(lambda found: dataclasses.replace(found, total=found.total * float("nan")), folder / "not_finite")


def not_finite_scores(folder):
    """The scores of one user only, so of one process only."""
    model = fresh()
    score = model.score

    def spoiled(batch):
        return score(batch).masked_fill((batch.user == 1)[:, None], torch.nan)

    model.score = spoiled
    return error_of(lambda: measure(model, SPLIT))


def full_disk(folder):
    def refused(*anything):
        raise OSError("no space left")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "_write", refused)
        return error_of(lambda: fit(fresh(), SPLIT, OPTIONS, folder / "full"))


def taken(folder):
    """The folder is being written by another training."""
    with training._lock(folder / "taken") if processes.index() == 0 else contextlib.nullcontext():
        return error_of(lambda: fit(fresh(), SPLIT, OPTIONS, folder / "taken"))


def unlike(folder):
    return error_of(lambda: fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, tokens=64 + processes.index())))


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
    """Run by each of the two processes."""
    processes.start()
    for name, scene in SCENES.items():
        began = time.monotonic()
        tensors, info = scene(folder)
        stem = f"{name} {processes.index()}"
        save_file({key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}, folder / f"{stem}.sf")
        info["took"] = time.monotonic() - began
        (folder / f"{stem}.json").write_text(json.dumps(info), encoding="utf-8")


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
    """The results of a scene, of the first and the second process: tensors and JSON."""

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
    (weights, info), (expected_weights, expected_info) = found, expected
    for row, other in zip(info["history"], expected_info["history"], strict=True):
        assert row["steps"] == other["steps"] and row["loss"] == pytest.approx(other["loss"], rel=1e-6)
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        other = expected_weights[name]
        if name.endswith("mixer.project_in.bias"):
            (query, _, value), (its_query, _, its_value) = weight.chunk(3), other.chunk(3)
            weight, other = torch.cat([query, value]), torch.cat([its_query, its_value])
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_train_like_one(name, seen):
    first, second = seen(f"alike {name}")
    assert same_bits(first[0], second[0]) and first[1]["history"] == second[1]["history"]
    assert first[1]["metrics"] == second[1]["metrics"]
    assert_alike(first, alike(name))


def test_a_process_without_rows_changes_nothing(seen):
    first, second = seen("one_row")
    assert same_bits(first[0], second[0])
    assert_alike(first, one_row())
    rows = [len(batch) for batch in SPLIT.train.training_batches(8, 16, 0, (1, 2))]
    assert 0 in rows and max(rows) > 0


def test_a_parameter_without_a_gradient_in_one_process_is_trained(seen):
    first, second = seen("sometimes")
    assert same_bits(first[0], second[0])
    assert first[0]["rare"] != 1.0 and bool(first[0]["drawn"].all())
    assert_alike(first, sometimes_alone())


def test_all_processes_start_from_the_buffers_of_the_first(seen):
    first, second = seen("prepared")
    expected = torch.rand(SPLIT.n_items + 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first[0]["table"], expected) and torch.equal(second[0]["table"], expected)


@pytest.mark.parametrize("name", ["sasrec", "tiger"])
def test_an_evaluation_by_two_processes_is_bit_identical(name, seen):
    expected, _ = ranked(name)
    for found, _ in seen(f"ranked {name}"):
        assert same_bits(found, expected)


def test_random_numbers_differ_between_processes_and_are_reproducible(seen):
    straight, resumed = seen("straight"), seen("killed_and_resumed")
    assert same_bits(straight[0][0], straight[1][0])
    assert same_bits(straight[0][0], resumed[0][0]) and same_bits(straight[0][0], resumed[1][0])
    assert straight[0][1]["history"] == resumed[0][1]["history"]
    for index in (0, 1):  # as the docstring of fit says
        assert straight[index][1]["seeds"] == [7 * 1_000_003 + epoch + 7_919 * index for epoch in range(3)]


def test_a_killed_training_resumes_from_one_checkpoint(seen, stage):
    first, second = (info for _, info in seen("killed_and_resumed"))
    assert first["error"]["kind"] == "LookupError" and second["error"]["kind"] == "ConnectionAbortedError"
    assert "Process 0 of 2 (the first is 0) failed. LookupError: killed" in second["error"]["text"]
    assert first["between"] == ["resumed.partial"]
    assert {path.name for path in (stage / "resumed").iterdir()} == FILES
    assert not list(stage.glob("resumed.*"))
    for info in (first, second):
        assert info["metrics"] == info["again"] == info["read"]
    origin = json.loads((stage / "resumed" / "provenance.json").read_text())
    assert origin["processes"] == 2


@pytest.mark.parametrize("where", PRESSED)
def test_ctrl_c_in_one_process_stops_both_with_the_best_epoch(where, seen, stage):
    first, second = seen(where)
    assert first[1]["cut"] and second[1]["cut"] and same_bits(first[0], second[0])
    assert len(first[1]["history"]) == 2
    assert not (stage / where).exists() and (stage / f"{where}.partial" / "checkpoint").is_dir()
    assert (stage / "stdout 0").read_text().count("Stopped in epoch 3: the best epoch so far") == len(PRESSED)


def test_an_error_in_one_process_stops_both(seen):
    (_, first), (_, second) = seen("wrong")
    assert second["kind"] == "ValueError" and second["text"] == "the second process cannot go on"
    assert first["kind"] == "ConnectionAbortedError"
    assert first["text"].endswith("Process 1 of 2 (the first is 0) failed. ValueError: " + second["text"])


def test_a_loss_that_is_not_finite_in_one_process_stops_both_with_one_message(seen, stage):
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
def test_the_error_of_one_process_reaches_the_other(scene, kind, text, seen):
    found = sorted((info for _, info in seen(scene)), key=lambda info: info["kind"] == "ConnectionAbortedError")
    assert [info["kind"] for info in found] == [kind, "ConnectionAbortedError"]
    assert all(text in info["text"] for info in found)


def test_processes_with_different_settings_raise(seen):
    for _, info in seen("unlike"):
        assert info["kind"] == "ValueError" and "different data or settings" in info["text"]


def test_only_the_first_process_prints(stage):
    assert "epoch 1/3: loss" in (stage / "stdout 0").read_text()
    assert (stage / "stdout 1").read_text() == ""


def test_a_killed_process_ends_the_other_and_one_process_can_resume(stage):
    info = json.loads((stage / "lost 0.json").read_text())
    assert info["kind"] == "ConnectionAbortedError" and info["seconds"] < LAST
    assert "Process 0 of 2 (the first is 0) lost the connection to the others. One of them has ended" in info["text"]
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
    assert "torchrun is for `fit`; `leaderboard` would run once in every process" in capsys.readouterr().err


# shards of a batch, in one process

EXACT = {
    "bert4rec": {"last_only": 1.0},
    "discrec": {},
    "gru4rec": {},
    "mamba4rec": {},
    "mancar": {"cuts": 1000},  # all there are
    "rearec": {"objective": "last"},
    "recgpt": {},
    "reg4rec": {"order": "fixed", "align": 0.0},
    "resid": {},
    "s4rec": {},
    "sasrec": {},
    "sasrec_side": {},
    "setrec": {},
    "tiger": {},
}


@pytest.mark.parametrize("name", [name for name in models.names() if supports(models.system(name), Learns)])
def test_the_loss_of_a_batch_is_the_weighted_mean_over_its_shards(name):
    if name not in EXACT:
        pytest.skip("no settings without random numbers are known for this system")
    model = fresh(name, **EXACT[name])
    training.prepare(model, SPLIT)

    def of(shard):
        batch = next(SPLIT.train.training_batches(8, 200, 0, shard))
        loss = model.loss(batch)
        return loss.total.item(), int((batch.targets > 0).sum()) if loss.count is None else loss.count

    (whole, count), shards = of((0, 1)), [of((index, 3)) for index in range(3)]
    assert sum(part for _, part in shards) == count
    assert sum(total * part for total, part in shards) / count == pytest.approx(whole, rel=1e-5)
