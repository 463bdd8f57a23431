"""The one training loop, and the run folder it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab import models, ranking
from seqlab.datasets.columns import listed
from seqlab.evaluation import Ranks, metrics
from seqlab.optimization.checkpoint import Checkpoint, State
from seqlab.optimization.options import Options
from seqlab.presets import preset
from seqlab.runs.identity import differences, identity, name_of, stored_identity
from seqlab.runtime import processes, provenance
from seqlab.runtime.files import alone
from seqlab.runtime.progress import Progress
from seqlab.tasks import rank

if TYPE_CHECKING:
    from accelerate import Accelerator

    from seqlab.datasets.sequences import Batch
    from seqlab.datasets.splits import Split
    from seqlab.ranking import Loss


@dataclass(frozen=True)
class Run:
    """A trained system and what is known about it; on disk, a folder (see `load_run`).

    history: one row per epoch (epoch, loss, seconds, and the validation metric where it was measured).
    metrics: {"test": ..., "valid": ..., "seconds": ..., "targets_per_second": ..., "epochs": ..., "best_epoch": ...}.
    ranks: the test ranks.
    """

    system: str
    model: nn.Module
    metrics: dict[str, Any]
    ranks: Ranks
    history: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    interrupted: bool = False

    def __repr__(self) -> str:
        test = self.metrics["test"]
        where = f", {self.folder}" if self.folder else ""
        return f"Run({self.system}: recall@10 {test['recall@10']:.4f}, ndcg@10 {test['ndcg@10']:.4f}{where})"


def fit(
    model: nn.Module,
    split: Split,
    options: Options | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seen_filter: bool | None = None,
) -> Run:
    """Train a system, keep the epoch that validates best, evaluate it on test, and write its run folder.

    Without `options` those of the preset are taken (see `usual_options`).
    `out` is written whole at the end; until then `<out>.partial` holds the last checkpoint, from which `resume=True`
    goes on to the same weights as an uninterrupted run (same machine, seed and number of processes). A finished run in
    `out` is loaded by `resume=True` if it is the one that this call would make. Ctrl-C stops training and goes on with
    the best epoch so far. Device, precision and processes are Accelerate's.

    A system with `calibrate(split, seen_filter)` is calibrated on validation after training; its validation metrics
    are measured after that.

    The same call trains by several processes under `torchrun`; all must make it, and each gets the run. A batch is
    still of `options.tokens` positions, its rows dealt out in turn. Loss and gradient are the means over the whole
    batch, as in one process but for rounding. What differs is what is drawn: dropout, negatives, masks, cuts and
    orders, by each process from the seed `seed * 1_000_003 + epoch + 7_919 * process` (crops and batches are the same
    for any number); and what rows do to one another, which they do among those of one process: negatives that a batch
    shares, the contrast of ReaRec's PRL and the sample of its ERL, the paths of REG4Rec's alignment. The first process
    writes and reports. Ctrl-C, or an error of one, stops them all.

    Raises `ValueError` where no user can be evaluated in validation or test, where `out` holds another run than this
    one, or a checkpoint of one, and where processes were given different settings; `FileExistsError` where `out` exists
    without `resume`; `BlockingIOError` where another training is writing it; `OSError` where it cannot be written;
    `FloatingPointError` where the loss is not finite (the last checkpoint is kept); `ConnectionAbortedError` where
    another process stopped.
    """
    options = options or usual_options(model, split)
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    for part, questions in (("validation", split.valid), ("test", split.test)):
        if not len(questions):
            raise ValueError(
                f"{split.log.name}: no user can be evaluated in the {part} part ({split.how}). {' '.join(split.notes)} "
                "Use a log with longer histories, or another split."
            )
    processes.start()
    if out is None:
        return _fit(model, split, options, None, resume, seen_filter)
    out = Path(out)
    with contextlib.ExitStack() as held:
        with processes.together():  # the first looks, and holds the folder, for all
            if processes.index() == 0 and not out.exists():  # a finished run may lie where nobody can write
                held.enter_context(_alone(out))
        _, finished = processes.share({}, "finished" if out.exists() else "")
        if finished:
            if resume:
                with processes.together():
                    return _found(out, model, split, options, seen_filter)
            raise FileExistsError(
                f"{out} exists; choose another folder, or pass resume=True to go on with what is there."
            )
        return _fit(model, split, options, out, resume, seen_filter)


def _found(out: Path, model: nn.Module, split: Split, options: Options, seen_filter: bool) -> Run:
    """The finished run in `out`. Raises `ValueError` where it is not the one that this training would be."""
    try:
        found = stored_identity(out)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out} is no finished run ({error}); choose another folder.") from error
    if differ := differences(found, identity(model, options, split, seen_filter, found.version)):
        raise ValueError(
            f"{out} holds another finished run: {listed(differ, 6)}. Choose another folder, or ask for the run that is "
            "there."
        )
    return load_run(out, split)


def _fit(model: nn.Module, split: Split, options: Options, out: Path | None, resume: bool, seen_filter: bool) -> Run:
    partial = None if out is None else _partial(out)
    torch.manual_seed(options.seed)
    started = time.perf_counter()
    asked = _sample(split, options.validate_users)
    if processes.index() == 0:
        print(_beginning(model, split, asked), flush=True)
    with processes.together():
        ranking.prepare(model, split)
    if processes.count() > 1:  # all begin with what the first has, to the last bit
        first, _ = processes.share(model.state_dict())
        ranking.read_state(model, first, "process 0")
    state, interrupted = State(), False
    if hasattr(model, "loss"):
        accelerator = _accelerator(options.precision)
        loop = _Loop(model, split, options, accelerator, partial, seen_filter)
        if resume and loop.checkpoint is not None:
            loop.checkpoint.restore(state, model, loop.optimizer)
        try:
            loop.run(state)
        except KeyboardInterrupt:
            interrupted = True
            kept = f"; `resume=True` goes on from {partial}" if partial else ""
            if processes.index() == 0:
                print(f"Stopped in epoch {state.epoch + 1}: the best epoch so far, {state.best_epoch}, is kept{kept}.")
        if state.best:
            model.load_state_dict(state.best)
    if hasattr(model, "calibrate"):
        model.calibrate(split, seen_filter)
        state.valid = {}
    test = rank(model, split, "test", seen_filter)
    summary = {
        "test": metrics(test),
        "valid": state.valid or metrics(rank(model, asked, "valid", seen_filter)),
        "valid_users": len(asked.valid),
        "protocol": test.protocol,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(state.seconds or time.perf_counter() - started, 3),
        "targets_per_second": round(state.targets / state.seconds, 1) if state.seconds else None,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
    }
    run = Run(name_of(model), model.eval(), summary, test, state.history, out, interrupted)
    if out is None or interrupted:
        return dataclasses.replace(run, folder=None)
    with processes.together():  # when one returns, the folder is there
        if processes.index() == 0:
            _write(run, split, options, partial)
    return run


def _beginning(model: nn.Module, split: Split, asked: Split) -> str:
    """What is about to be done, before the first seconds that show nothing."""
    text = f"{name_of(model)} on {split.log.name}: {split.n_users:,} users, {split.n_items:,} items"
    if hasattr(model, "loss"):
        text += f", {split.train.targets_per_epoch(model.config.max_length):,} targets an epoch"
    if len(asked.valid) < len(split.valid):
        text += f"; validation asks {len(asked.valid):,} of {len(split.valid):,} users"
    return text + (". Preparing what it reads." if hasattr(model, "prepare") else ".")


def _sample(split: Split, users: int | None) -> Split:
    """The split with so many validation users, drawn alike for every training; all of them for None."""
    if users is None or users >= len(split.valid):
        return split
    drawn = torch.randperm(len(split.valid), generator=torch.Generator().manual_seed(0))[:users].sort().values
    return dataclasses.replace(split, valid=split.valid.select(drawn))


def _alone(out: Path) -> contextlib.AbstractContextManager:
    """This process alone writes the run folder `out`; where another one does, or nobody can, it is said at once."""
    return alone(out, f"Another training is writing {out}; wait for it, or choose another folder.")


def _partial(out: Path) -> Path:
    """Where a run lies until it is finished."""
    return out.with_name(out.name + ".partial")


def usual_options(model: nn.Module, split: Split) -> Options:
    """The options that suit this system on these data (see `presets`), over the defaults."""
    system, kinds = name_of(model), models.types_of(Options)
    found = preset(system, split.log.card, split.log.n_events).options
    return Options(**{key: models.read_as(kinds[key], value, f"{system}: {key}") for key, value in found.items()})


def load_run(folder: str | Path, split: Split) -> Run:
    """Read the run that `fit` wrote to `folder`, for the split it was trained on.

    Raises `ValueError` when the run was made from other data, `FileNotFoundError` when the folder is no finished run.
    """
    import pandas as pd

    folder = Path(folder)
    model = ranking.load(folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    data = origin["data"]
    fingerprint = split.log.fingerprint(data.get("fingerprint_version", 1))
    if data["fingerprint"] != fingerprint or data["split"] != split.how:
        raise ValueError(
            f"{folder} was trained on {data['name']} ({data['split']}), not on this split of "
            f"{split.log.name} ({split.how}); load the data it was trained on."
        )
    stored = origin["evaluation"]
    ranks = Ranks(
        pd.read_parquet(folder / "ranks.parquet"), torch.tensor(stored["exposure"]),
        split.train.item_counts(split.n_items), stored["seen_filter"], split.n_items,
    )  # fmt: skip
    return Run(described["system"], model, summary, ranks, origin["history"], folder)


def _write(run: Run, split: Split, options: Options, partial: Path) -> None:
    """Fill the folder under its temporary name, then rename it."""
    origin = provenance.describe() | {
        "options": dataclasses.asdict(options),
        "data": {"name": split.log.name, "card": split.log.card, "origin": split.log.origin, "split": split.how,
                 "fingerprint": split.log.fingerprint(), "fingerprint_version": 2},
        "evaluation": {"seen_filter": run.ranks.seen_filter, "exposure": run.ranks.exposure.tolist()},
        "history": run.history,
        "processes": processes.count(),
    }  # fmt: skip
    partial.mkdir(parents=True, exist_ok=True)
    ranking.save(run.model, partial, run.system, split.n_items)
    run.ranks.frame.to_parquet(partial / "ranks.parquet", index=False)
    for name, content in {"metrics": run.metrics, "provenance": origin}.items():
        text = json.dumps(content, indent=2, allow_nan=False)
        (partial / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(partial / "checkpoint", ignore_errors=True)
    os.replace(partial, run.folder)


class _Objective(nn.Module):
    """`model.loss` as a forward pass, which is what Accelerate and torch.compile wrap."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Loss:
        return self.model.loss(batch)


class _Loop:
    def __init__(self, model, split, options, accelerator, partial, seen_filter) -> None:
        self.model, self.split, self.options, self.accelerator = model, split, options, accelerator
        self.seen_filter = seen_filter
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimizer]
        model.to(accelerator.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        decay = options.weight_decay
        optimizer = kind(self.parameters, options.learning_rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
        # without DDP: see `_learn_together`
        self.objective = accelerator.prepare_model(_Objective(model), evaluation_mode=True)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.pressed = threading.Event()  # Ctrl-C, among several processes
        if options.compile:
            self.objective = torch.compile(self.objective, dynamic=True)
        self.train = split.train.to(accelerator.device)
        self.asked = _sample(split, options.validate_users)
        self.targets = split.train.targets_per_epoch(model.config.max_length)
        chosen = identity(model, options, split, seen_filter).chosen()
        if options.decay == "none":
            chosen["options"].pop("epochs", None)  # training may go on for longer than it was begun for
        settings = json.dumps(chosen, sort_keys=True)
        if len(set(processes.say(settings))) > 1:
            raise ValueError("The processes of this training have different data or settings; give all the same.")
        self.checkpoint = None if partial is None else Checkpoint(partial / "checkpoint", settings)

    def run(self, state: State) -> None:
        with Progress(self.options.epochs, self.options.metric) as progress, processes.hold_back(self.pressed):
            while state.epoch < self.options.epochs:
                if _validations_since(state, self.options.metric) >= self.options.patience:
                    progress.say(f"No better {self.options.metric} in {self.options.patience} validations: stopped.")
                    break
                self._epoch(state, progress)
                with processes.together():
                    if self.checkpoint is not None and processes.index() == 0:
                        self.checkpoint.save(state, self.model, self.optimizer)
                    if self.pressed.is_set():
                        raise KeyboardInterrupt

    def _epoch(self, state: State, progress: Progress) -> None:
        options, began = self.options, time.perf_counter()
        seed = options.seed * 1_000_003 + state.epoch  # an epoch is the same whether or not it was resumed at
        torch.manual_seed(seed + processes.index() * 7_919)
        self.model.train()
        total, steps, targets, learned = torch.zeros((), device=self.accelerator.device), 0, 0, 0
        step = sum(int(row["steps"]) for row in state.history)
        done, share = state.epoch / options.epochs, (processes.index(), processes.count())
        for batch in self.train.training_batches(self.model.config.max_length, options.tokens, seed, share):
            rate = _rate(options, step + steps + 1, done)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss, asked, count = self._learn(batch) if processes.count() == 1 else self._learn_together(batch)
            self.accelerator.clip_grad_norm_(self.parameters, options.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss
            steps += 1
            targets += int(asked)
            learned += int(count)
            if steps % 20 == 0:
                mean = float(total) / steps
                self._must_be_finite(mean, state.epoch, steps, rate)
                share = targets / max(self.targets, 1)
                progress.step(state.epoch, share, learned / (time.perf_counter() - began), mean)
        mean = float(total) / max(steps, 1)
        self._must_be_finite(mean, state.epoch, steps, options.learning_rate)
        state.seconds += time.perf_counter() - began
        state.targets += learned
        state.epoch += 1
        row = {"epoch": state.epoch, "loss": mean, "steps": steps}
        if state.epoch % options.validate_every == 0 or state.epoch == options.epochs:
            valid = metrics(rank(self.model, self.asked, "valid", self.seen_filter))
            row[options.metric] = valid[options.metric]
            if valid[options.metric] > state.valid.get(options.metric, -1.0):
                state.valid, state.best_epoch = valid, state.epoch
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        state.history.append(row | {"seconds": round(time.perf_counter() - began, 3)})
        progress.epoch(state.history[-1], learned / (state.seconds / state.epoch), state.best_epoch)

    def _learn(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | int]:
        """Leave the gradient of the loss in the parameters; the loss, the targets, and how many were learned from."""
        loss, asked = self._backward(batch), (batch.targets > 0).sum()
        return loss.total.detach(), asked, asked if loss.count is None else loss.count

    def _backward(self, batch: Batch) -> Loss:
        with self.accelerator.autocast():
            loss = self.objective(batch)
        self.accelerator.backward(loss.total)
        return loss

    def _learn_together(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """`_learn` where each process holds some rows of the batch, or none.

        Every process's mean is weighed by the answers it is a mean over; their sum is the mean over the whole batch.
        DDP would weigh all processes alike, stall where one has no rows, and search every step for parameters without a
        gradient; one sum of one flat tensor needs none of that, and carries along whether somebody failed.
        """
        asked = (batch.targets > 0).sum()
        loss, weight, failure = torch.zeros((), device=asked.device), asked, None
        try:
            if self.pressed.is_set():
                raise KeyboardInterrupt
            if len(batch):
                found = self._backward(batch)
                loss, weight = found.total.detach(), asked if found.count is None else asked.new_tensor(found.count)
            elif self.accelerator.scaler is not None:
                self.accelerator.scaler.scale(loss)  # it must have seen a loss before it sees gradients
        except BaseException as error:
            failure = error
        own = [parameter.grad for parameter in self.parameters]
        has = asked.new_tensor([grad is not None for grad in own])
        said = torch.stack([loss.float() * weight, weight, asked, asked.new_tensor(failure is not None)])
        flat = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(self.parameters, own, strict=True)]
        flat = processes.total(torch.cat([*(grad.flatten() * weight for grad in flat), has, said]))
        *gradients, has, said = flat.split([*(parameter.numel() for parameter in self.parameters), len(has), len(said)])
        loss, weight, asked, failed = said
        if failed:
            processes.meet(failure)
        for parameter, gradient, somewhere in zip(self.parameters, gradients, has.tolist(), strict=True):
            parameter.grad = gradient.div_(weight).view_as(parameter) if somewhere else None
        return loss / weight, asked, weight

    def _must_be_finite(self, loss: float, epoch: int, step: int, rate: float) -> None:
        if loss != loss or loss in (float("inf"), float("-inf")):
            kept = f" The checkpoint of epoch {epoch} is kept." if self.checkpoint is not None and epoch else ""
            raise FloatingPointError(
                f"The loss is not finite ({loss}) in epoch {epoch + 1}, by batch {step}, learning rate {rate:g}. "
                f"Lower learning_rate, or turn precision to 'no'.{kept}"
            )


def _validations_since(state: State, metric: str) -> int:
    """How many validations there were after the best one."""
    return sum(metric in row and row["epoch"] > state.best_epoch for row in state.history)


def _rate(options: Options, step: int, share: float) -> float:
    """The learning rate of a step, the first of which is 1, in an epoch before which `share` of all epochs are done."""
    rate = options.learning_rate * min(1.0, step / max(options.warmup, 1))
    return rate if options.decay == "none" else rate * (1 + math.cos(math.pi * share)) / 2


def _accelerator(precision: str) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # precision is a setting of the process in Accelerate; here it is one of the run
    AcceleratorState._reset_state(reset_partial_state=False)
    return Accelerator(mixed_precision=precision)
