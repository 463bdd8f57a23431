"""Training: the same weights whatever interrupts it, and a run folder that is whole or not there."""

import dataclasses
import functools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from seqlab import load_run, models
from seqlab.datasets import DataError, by_time, cold_items, leave_one_out
from seqlab.evaluation import metrics
from seqlab.optimization.checkpoint import Checkpoint, State
from seqlab.optimization.loop import Loop
from seqlab.optimization.options import Options
from seqlab.runs import store
from seqlab.runtime import progress
from seqlab.tasks import measure
from seqlab.training import fit as training
from seqlab.training import validation
from seqlab.training.fit import fit
from seqlab.training.validation import Validation
from tests.synthetic import chain_log, log_of, small

torch.set_num_threads(1)

SPLIT = leave_one_out(chain_log(3, users=30))
OPTIONS = Options(epochs=4, tokens=64, learning_rate=5e-3, warmup=20, patience=4, seed=7)
FILES = {"config.json", "model.safetensors", "metrics.json", "outcome.parquet", "provenance.json"}


def fresh(name="sasrec"):
    torch.manual_seed(1)
    return models.build(name, SPLIT.n_items, small(name, dim=16, dropout=0.2))


def weights(run):
    return run.model.state_dict()


def same_weights(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(history):
    """The history without the seconds, which differ."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


class Killed(Exception):
    """What a power cut is to a test."""


@pytest.fixture(scope="module")
def straight():
    run = fit(fresh(), SPLIT, OPTIONS)
    assert run.metrics["best_epoch"] == OPTIONS.epochs, "only then do its weights tell the last epochs apart"
    return run


def test_a_compiled_training_has_the_same_loss(monkeypatch):
    """Our modules become graphs; what PyTorch makes of these is not tested, as it takes some 20 seconds."""
    graphs = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", graphs)
    runs = []
    for compiled in (False, True):
        torch.manual_seed(1)
        model = models.build("sasrec", SPLIT.n_items, small("sasrec", dim=16, layers=1, dropout=0.0))
        runs.append(fit(model, SPLIT, dataclasses.replace(OPTIONS, epochs=1, compile=compiled)))
    eager, compiled = (run.history[0]["loss"] for run in runs)
    assert compiled == pytest.approx(eager, rel=1e-5)


def test_the_gradient_is_clipped_to_its_norm():
    before = {name: tensor.clone() for name, tensor in fresh().state_dict().items()}
    after = weights(fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=1, clip=1e-12)))
    assert max(float((after[name] - before[name]).abs().max()) for name in before) < 1e-5, "far below Adam's epsilon"


def test_adam_decays_by_the_gradient_where_adamw_decays_the_weights():
    def trained(optimizer, decay):
        return fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=1, optimizer=optimizer, weight_decay=decay))

    assert same_weights(trained("adam", 0.0), trained("adamw", 0.0))
    assert not same_weights(trained("adam", 0.1), trained("adamw", 0.1))


def die_after_the_checkpoint(monkeypatch, model):
    save = Checkpoint.save

    def dying(self, state, *rest):
        save(self, state, *rest)
        if state.epoch == 2:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", dying)


def die_while_the_checkpoint_is_written(monkeypatch, model):
    save = Checkpoint.save

    def dying(self, state, *rest):
        if state.epoch == 3:
            monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(Killed))
        save(self, state, *rest)

    monkeypatch.setattr(Checkpoint, "save", dying)


def die_inside_an_epoch(monkeypatch, model):
    loss, calls = model.loss, iter(range(10_000))
    per_epoch = sum(1 for _ in SPLIT.train.training_batches(8, OPTIONS.tokens, 0))

    def dying(batch):
        if next(calls) == 2 * per_epoch + 2:
            raise Killed
        return loss(batch)

    monkeypatch.setattr(model, "loss", dying, raising=False)


def die_while_the_folder_is_filled(monkeypatch, model):
    def dying(*_):
        raise Killed

    monkeypatch.setattr(store, "save", dying)


@pytest.mark.parametrize(
    "die",
    [
        die_after_the_checkpoint,
        die_while_the_checkpoint_is_written,
        die_inside_an_epoch,
        die_while_the_folder_is_filled,
    ],
)
def test_a_killed_training_resumes_to_the_same_weights(die, straight, tmp_path):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        model = fresh()
        die(patched, model)
        fit(model, SPLIT, OPTIONS, out)
    assert not out.exists() and (tmp_path / "run.partial").is_dir()
    resumed = fit(fresh(), SPLIT, OPTIONS, out, resume=True)
    assert same_weights(resumed, straight)
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    assert all(resumed.metrics[part] == straight.metrics[part] for part in ("test", "valid"))
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_killed_training_may_be_given_more_epochs_but_no_other_settings(tmp_path):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        model = fresh()
        die_after_the_checkpoint(patched, model)
        fit(model, SPLIT, dataclasses.replace(OPTIONS, epochs=3), out)
    for other in (dataclasses.replace(OPTIONS, learning_rate=1e-3), dataclasses.replace(OPTIONS, seed=8)):
        with pytest.raises(ValueError, match="was made with other settings or data; use the same ones"):
            fit(fresh(), SPLIT, other, out, resume=True)
    longer = dataclasses.replace(OPTIONS, epochs=5)
    assert same_weights(fit(fresh(), SPLIT, longer, out, resume=True), fit(fresh(), SPLIT, longer))


def test_resuming_without_a_checkpoint_starts_and_a_finished_run_is_read(straight, tmp_path):
    out = tmp_path / "run"
    first = fit(fresh(), SPLIT, OPTIONS, out, resume=True)
    assert same_weights(first, straight)
    again = fit(fresh(), SPLIT, OPTIONS, out, resume=True)
    assert same_weights(again, first) and without_seconds(again.history) == without_seconds(first.history)


def test_ctrl_c_keeps_the_best_epoch_and_leaves_the_rest_to_resume(straight, tmp_path, capsys):
    out, model = tmp_path / "run", fresh()
    with pytest.MonkeyPatch.context() as patched:
        loss, calls = model.loss, iter(range(10_000))
        per_epoch = sum(1 for _ in SPLIT.train.training_batches(8, OPTIONS.tokens, 0))

        def pressed(batch):
            if next(calls) == 3 * per_epoch + 1:
                raise KeyboardInterrupt
            return loss(batch)

        patched.setattr(model, "loss", pressed, raising=False)
        run = fit(model, SPLIT, OPTIONS, out)
    assert run.interrupted and run.folder is None and not out.exists() and not run.model.training
    three = fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=3))
    assert same_weights(run, three) and run.metrics["test"] == three.metrics["test"]
    best = three.metrics["best_epoch"]
    assert f"Stopped in epoch 4: the best epoch so far, {best}, is kept" in capsys.readouterr().out
    assert same_weights(fit(fresh(), SPLIT, OPTIONS, out, resume=True), straight)


def test_the_best_epoch_is_kept_not_the_last(monkeypatch):
    values, seen = iter([0.1, 0.5, 0.3, 0.2]), []

    def worth(ranks):
        return {"ndcg@10": next(values, 0.0)}

    epoch = Loop._epoch

    def watched(self, state):
        epoch(self, state)
        seen.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})

    monkeypatch.setattr(training, "metrics", worth)
    monkeypatch.setattr(validation, "metrics", worth)
    monkeypatch.setattr(Loop, "_epoch", watched)
    run = fit(fresh(), SPLIT, OPTIONS)
    assert run.metrics["best_epoch"] == 2 and run.metrics["epochs"] == 4
    assert all(torch.equal(weights(run)[name], seen[1][name]) for name in seen[1])
    assert not all(torch.equal(seen[1][name], seen[3][name]) for name in seen[1])


def test_training_stops_when_nothing_gets_better(capsys):
    run = fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=50, patience=3, learning_rate=1e-30))
    assert run.metrics["epochs"] == 4 and run.metrics["best_epoch"] == 1
    assert "No better ndcg@10 in 3 validations: stopped." in capsys.readouterr().out


def test_patience_counts_validations_and_not_the_epochs_between_them():
    unmoved = dataclasses.replace(OPTIONS, epochs=20, validate_every=6, patience=2, learning_rate=1e-30)
    run = fit(fresh(), SPLIT, unmoved)
    assert run.metrics["epochs"] == 18 and run.metrics["best_epoch"] == 6


def test_validation_may_come_every_few_epochs_and_comes_after_the_last():
    run = fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=5, validate_every=2))
    assert [row["epoch"] for row in run.history if "ndcg@10" in row] == [2, 4, 5]
    assert run.metrics["best_epoch"] in (2, 4, 5)


def test_the_metrics_of_validation_are_those_of_the_epoch_that_is_kept(straight):
    lasting = dataclasses.replace(OPTIONS, epochs=30, learning_rate=0.1, patience=3)
    passed = fit(fresh(), SPLIT, lasting)
    assert passed.metrics["best_epoch"] < passed.metrics["epochs"]
    for run in (straight, passed):
        assert run.metrics["valid"] == metrics(measure(run.model, SPLIT, "valid"))


def test_the_learning_rate_rises_over_the_first_steps_whatever_the_epoch(monkeypatch):
    rates = []

    class Noting(torch.optim.AdamW):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "AdamW", Noting)
    run = fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=3, warmup=10))
    assert run.history[0]["steps"] < 10 < len(rates) == sum(row["steps"] for row in run.history)
    expected = [OPTIONS.learning_rate * min(1, step / 10) for step in range(1, len(rates) + 1)]
    assert rates == pytest.approx(expected)
    rates.clear()
    run = fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=4, warmup=1, decay="cosine"))
    per_epoch = [share for row, share in zip(run.history, (1, 0.853553, 0.5, 0.146447), strict=True)
                 for _ in range(int(row["steps"]))]  # fmt: skip
    assert rates == pytest.approx([OPTIONS.learning_rate * share for share in per_epoch], rel=1e-4)


def test_a_falling_rate_cannot_be_resumed_to_another_number_of_epochs(tmp_path):
    falling = dataclasses.replace(OPTIONS, epochs=2, decay="cosine")
    model = fresh()
    loss, calls = model.loss, iter(range(10_000))
    per_epoch = sum(1 for _ in SPLIT.train.training_batches(8, OPTIONS.tokens, 0))

    def stopped(batch):
        if next(calls) >= per_epoch:
            raise KeyError("killed")
        return loss(batch)

    model.loss = stopped
    with pytest.raises(KeyError, match="killed"):
        fit(model, SPLIT, falling, tmp_path / "run")
    with pytest.raises(ValueError, match="other settings"):
        fit(fresh(), SPLIT, dataclasses.replace(falling, epochs=3), tmp_path / "run", resume=True)
    assert fit(fresh(), SPLIT, falling, tmp_path / "run", resume=True).metrics["epochs"] == 2


def test_a_loss_that_is_not_finite_stops_with_the_learning_rate_and_the_checkpoint(tmp_path):
    out, model = tmp_path / "run", fresh()
    loss, calls = model.loss, iter(range(10_000))
    per_epoch = sum(1 for _ in SPLIT.train.training_batches(8, OPTIONS.tokens, 0))

    def broken(batch):
        found = loss(batch)
        return dataclasses.replace(found, total=found.total * (float("nan") if next(calls) >= per_epoch else 1))

    model.loss = broken
    complaint = r"not finite \(nan\) in epoch 2, .*learning rate 0\.00.*epoch 1 is kept"
    with pytest.raises(FloatingPointError, match=complaint):
        fit(model, SPLIT, OPTIONS, out)
    assert not out.exists() and (tmp_path / "run.partial" / "checkpoint" / "state.safetensors").is_file()
    model.loss = lambda batch: dataclasses.replace(loss(batch), total=loss(batch).total * float("inf"))
    with pytest.raises(FloatingPointError, match=r"Lower learning_rate, or turn precision to 'no'\.$"):
        fit(model, SPLIT, OPTIONS)


def test_two_trainings_do_not_write_one_folder(tmp_path):
    model, out = fresh(), tmp_path / "run"
    loss, refusals = model.loss, []

    def loss_beside_another(batch):
        if not refusals:
            with pytest.raises(BlockingIOError, match=r"Another training is writing .*run; wait for it") as refusal:
                fit(fresh(), SPLIT, OPTIONS, out, resume=True)
            refusals.append(refusal)
        return loss(batch)

    model.loss = loss_beside_another
    fit(model, SPLIT, dataclasses.replace(OPTIONS, epochs=1), out)
    assert refusals and {path.name for path in tmp_path.iterdir()} == {"run"}
    load_run(out, SPLIT)


def test_a_full_disk_is_told_in_a_sentence_and_costs_nothing_that_was_kept(straight, tmp_path):
    """The system refuses files beyond a size, as a full disk would, from the second checkpoint on."""
    out, save = tmp_path / "run", Checkpoint.save

    def full(self, state, *rest):
        if state.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        save(self, state, *rest)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "save", full)
        try:
            with pytest.raises(OSError, match=r"could not be written .*make room, then go on from it with resume"):
                fit(fresh(), SPLIT, OPTIONS, out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "run.partial" / "checkpoint").iterdir()] == ["state.safetensors"]
    assert same_weights(fit(fresh(), SPLIT, OPTIONS, out, resume=True), straight)


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    model = fresh()
    model.loss = lambda batch: pytest.fail("trained in vain")
    with pytest.raises(OSError, match="file"):
        fit(model, SPLIT, OPTIONS, tmp_path / "file" / "run")


def test_a_finished_run_is_read_where_nobody_can_write(tmp_path, monkeypatch):
    out = tmp_path / "run"
    fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=1), out)

    def refused(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(training, "_lock", refused)
    assert fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=1), out, resume=True).folder == out
    with pytest.raises(FileExistsError, match="choose another folder"):
        fit(fresh(), SPLIT, OPTIONS, out)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"system": "gru4rec"}, "the system sasrec instead of gru4rec"),
     ({"settings": {"dim": 24}}, "dim 16 instead of 24"),
     ({"options": {"learning_rate": 0.5}}, "learning_rate 0.005 instead of 0.5"),
     ({"options": {"seed": 3}}, "seed 7 instead of 3"), ({"seen_filter": True}, "seen items kept, not filtered"),
     ({"split": leave_one_out(chain_log(5))}, "other data, called synthetic, than this synthetic"),
     ({"split": by_time(chain_log(), 8, 10)}, "the split leave-one-out instead of by-time")],
)  # fmt: skip
def test_a_finished_run_comes_back_only_if_it_is_the_one_that_was_requested(change, sentence, tmp_path):
    out = tmp_path / "run"
    made = fit(models.build("sasrec", SPLIT.n_items, {"dim": 16}), SPLIT, OPTIONS, out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    split = change.get("split", SPLIT)
    system = change.get("system", "sasrec")
    model = models.build(system, split.n_items, {"dim": 16} | change.get("settings", {}))
    options = dataclasses.replace(OPTIONS, **change.get("options", {}))
    with pytest.raises(ValueError, match=f"holds another finished run: .*{sentence}"):
        fit(model, split, options, out, resume=True, seen_filter=change.get("seen_filter"))
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    again = fit(models.build("sasrec", SPLIT.n_items, {"dim": 16}), SPLIT, OPTIONS, out, resume=True)
    assert again.metrics == made.metrics


def test_a_log_whose_users_cannot_be_evaluated_is_refused_before_training(tmp_path):
    split = leave_one_out(log_of([[1, 2], [2, 3], [3, 1]]))
    with pytest.raises(ValueError, match=r"no user can be evaluated in the validation part.*3 users have fewer"):
        fit(models.build("popularity", 3), split, OPTIONS, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_validation_may_ask_a_sample_of_the_users_the_same_for_every_seed():
    one = dataclasses.replace(OPTIONS, epochs=1)
    runs = [fit(fresh(), SPLIT, dataclasses.replace(one, seed=seed, validate_users=20)) for seed in (1, 2)]
    assert [run.metrics["valid_users"] for run in runs] == [20, 20]
    whole = fit(fresh(), SPLIT, dataclasses.replace(one, seed=1))
    assert whole.metrics["valid_users"] == len(SPLIT.valid) and whole.metrics["test"] == runs[0].metrics["test"]
    assert whole.metrics["valid"] != runs[0].metrics["valid"]


def test_the_targets_counted_are_those_learned_from(straight):
    split = leave_one_out(chain_log())
    learned = {}
    for name in ("sasrec", "mancar"):  # mancar learns from some cuts of a history
        run = fit(models.build(name, split.n_items, small(name)), split, dataclasses.replace(OPTIONS, epochs=1))
        learned[name] = run.metrics["targets_per_second"] * run.metrics["seconds"]
    assert learned["sasrec"] == pytest.approx(split.train.targets_per_epoch(8), rel=0.01)
    assert 0 < learned["mancar"] < 0.7 * learned["sasrec"]


def test_a_training_killed_at_random_moments_goes_on_to_the_same_weights(straight, tmp_path):
    """SIGKILL, fifty times, at moments of up to a whole training: what is there is whole, and the end is the same."""
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "run"), "50"],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 25
    resumed = fit(fresh(), SPLIT, OPTIONS, tmp_path / "run", resume=True)
    assert same_weights(resumed, straight)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


KILLS = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from safetensors.torch import load_file
from tests.training.test_fit import OPTIONS, SPLIT, fit, fresh, load_run

out, times, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
fit(fresh(), SPLIT, OPTIONS)  # what is slow the first time
began = time.monotonic()
fit(fresh(), SPLIT, OPTIONS)
longest, killed = 1.2 * (time.monotonic() - began), 0
for _ in range(times):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        fit(fresh(), SPLIT, OPTIONS, out, resume=True)
        os._exit(0)
    time.sleep(chance.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    checkpoint = Path(f"{out}.partial") / "checkpoint" / "state.safetensors"
    if checkpoint.exists():
        load_file(checkpoint)
    if out.exists():  # whole, then; once more from the start
        load_run(out, SPLIT)
        shutil.rmtree(out)
print(killed)
"""


def die_in_epoch(monkeypatch, epoch):
    """Let the first training of a stage end right after this epoch's checkpoint."""
    save = Checkpoint.save

    def dying(self, state, *rest):
        save(self, state, *rest)
        if state.epoch == epoch:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", dying)


STAGES = {
    "famae": ("resid", {"field_epochs": 4, "levels": (4, 4, 16)}),
    "rq_vae": ("tiger", {"tokenizer": "rq_vae", "levels": (8, 8, 16), "dropout": 0.2}),
    "fsq": ("recgpt", {"levels": (27, 27), "values": (3, 3, 3), "dropout": 0.2}),
    "parallel_vq": ("reg4rec", {"levels": (8, 8), "dropout": 0.2}),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_training_killed_in_a_stage_resumes_to_the_same_weights(stage, tmp_path):
    system, settings = STAGES[stage]
    brief = dataclasses.replace(OPTIONS, epochs=1)

    def new():
        return models.build(system, SPLIT.n_items, small(system, **settings), seed=1)

    whole = fit(new(), SPLIT, brief)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        die_in_epoch(patched, 3)
        fit(new(), SPLIT, brief, tmp_path / "run")
    assert not (tmp_path / "run.partial" / "checkpoint" / "state.safetensors").exists(), "killed before the main loss"
    resumed = fit(new(), SPLIT, brief, tmp_path / "run", resume=True)
    assert same_weights(resumed, whole) and resumed.metrics["test"] == whole.metrics["test"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_a_stage_killed_by_sigkill_resumes_to_the_same_weights(tmp_path):
    command = [sys.executable, "-c", STAGE_KILL, str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert ended.returncode == -9, ended.stderr
    checkpoint = tmp_path / "run.partial" / "checkpoint" / "famae" / "state.safetensors"
    assert checkpoint.exists()
    system, settings = STAGES["famae"]
    runs = [
        fit(models.build(system, SPLIT.n_items, small(system, **settings), seed=1), SPLIT, OPTIONS, out, resume=True)
        for out in (None, tmp_path / "run")
    ]
    assert same_weights(*runs)


STAGE_KILL = """
import os, signal, sys
from seqlab.models.semantic_ids.resid import FAMAE
from tests.training.test_fit import OPTIONS, SPLIT, STAGES, fit, models, small

loss, calls = FAMAE.loss, iter(range(10_000))

def killed(self, batch):
    if next(calls) == 2:  # in the third epoch: one has one batch
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, batch)

FAMAE.loss = killed
system, settings = STAGES["famae"]
fit(models.build(system, SPLIT.n_items, small(system, **settings), seed=1), SPLIT, OPTIONS, sys.argv[1])
"""


def test_without_resume_a_stage_starts_again(tmp_path):
    system, settings = STAGES["famae"]
    brief = dataclasses.replace(OPTIONS, epochs=1)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        die_in_epoch(patched, 1)
        fit(models.build(system, SPLIT.n_items, small(system, **settings)), SPLIT, brief, tmp_path / "run")
    other = small(system, **settings, field_rate=1e-2)
    with pytest.raises(ValueError, match="was made with other settings or data"):
        fit(models.build(system, SPLIT.n_items, other), SPLIT, brief, tmp_path / "run", resume=True)
    fit(models.build(system, SPLIT.n_items, other), SPLIT, brief, tmp_path / "run")


def test_a_folder_that_exists_is_not_written_over(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError, match="exists; choose another folder, or pass resume=True"):
        fit(fresh(), SPLIT, OPTIONS, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("name", ["sasrec", "markov"])
def test_a_run_reads_back_as_it_was_written(name, tmp_path):
    model = fresh() if name == "sasrec" else models.build(name, SPLIT.n_items)
    run = fit(model, SPLIT, OPTIONS, tmp_path / "run")
    assert {path.name for path in run.folder.iterdir()} == FILES
    again = load_run(run.folder, SPLIT)
    assert same_weights(again, run) and again.system == name
    pd.testing.assert_frame_equal(again.outcome.frame, run.outcome.frame)
    assert again.outcome.description() == run.outcome.description() and again.metrics == run.metrics
    assert again.history == run.history and repr(again) == repr(run)
    assert store.load(run.folder).config == run.model.config


def test_what_a_folder_says_names_no_place_on_this_machine(tmp_path):
    run = fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, epochs=1), tmp_path / "run")
    text = "".join((run.folder / name).read_text(encoding="utf-8") for name in FILES if name.endswith(".json"))
    assert str(tmp_path) not in text and os.path.expanduser("~") not in text.replace("~", "")
    origin = json.loads((run.folder / "provenance.json").read_text(encoding="utf-8"))
    assert origin["options"]["seed"] == 7 and origin["data"]["fingerprint"] == SPLIT.log.fingerprint()


@pytest.mark.parametrize("other", ["log", "split"])
def test_a_run_is_not_read_for_other_data(other, tmp_path):
    run = fit(models.build("popularity", SPLIT.n_items), SPLIT, out=tmp_path / "run")
    wrong = leave_one_out(chain_log(4, users=30)) if other == "log" else cold_items(SPLIT.log, 0.2)
    with pytest.raises(ValueError, match=r"was trained on synthetic .*load the data it was trained on"):
        load_run(run.folder, wrong)
    with pytest.raises(FileNotFoundError, match="is not a finished run"):
        load_run(tmp_path / "nowhere", SPLIT)


def test_every_target_is_counted_and_the_loss_is_recorded(straight):
    expected = int((SPLIT.train.lengths - 1).clamp(min=0, max=8).sum())
    assert straight.metrics["targets_per_second"] > 0
    assert [row["epoch"] for row in straight.history] == [1, 2, 3, 4]
    assert straight.history[-1]["loss"] < straight.history[0]["loss"]
    state = State()
    model = fresh()
    loop = training._loop(model, SPLIT, OPTIONS, None, Validation(model, SPLIT, OPTIONS, False))
    loop._epoch(state)
    assert state.targets == expected


def test_the_bar_shows_the_share_of_an_epochs_targets(monkeypatch):
    shown = []

    class Bar(SimpleNamespace):
        def refresh(self):
            shown.append(self.n)

    def bar(total, **_):
        return Bar(n=0, set_postfix_str=lambda *_, **__: None, close=lambda: None, write=print)

    monkeypatch.setattr(progress, "interactive", lambda: True)
    monkeypatch.setattr("tqdm.auto.tqdm", bar)
    split = leave_one_out(log_of([list(range(1, 90)) for _ in range(60)], repeats=True))  # histories are cut to 8
    fit(models.build("sasrec", 89, small("sasrec")), split, Options(epochs=1, tokens=16, validate_every=1))
    assert len(shown) == 1 and shown[0] == pytest.approx(2 / 3, abs=0.01)  # after 20 of 30 batches


def test_a_metric_that_the_task_does_not_have_is_refused_before_training():
    with pytest.raises(ValueError, match=r"metric must be one of recall@1, ndcg@1.* \(got 'ndcg@7'\)"):
        fit(fresh(), SPLIT, dataclasses.replace(OPTIONS, metric="ndcg@7"))


def test_a_system_whose_column_is_missing_is_refused_before_training():
    model = fresh()
    model.needs = ("basket",)
    with pytest.raises(DataError, match=r"the events have no column 'basket'.*--column basket=NAME"):
        fit(model, SPLIT, OPTIONS)
