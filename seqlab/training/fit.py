"""fit: prepare, train, validate, calibrate, evaluate, and write the run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from seqlab import tasks
from seqlab.contracts import (
    Advances,
    BeginsEpoch,
    Calibrates,
    Draws,
    Learns,
    Prepares,
    Stages,
    name_of,
    needs_of,
    supports,
)
from seqlab.datasets.split_names import with_columns
from seqlab.decoding.settings import differs
from seqlab.evaluation import metrics
from seqlab.optimization import tracking
from seqlab.optimization.checkpoint import Checkpoint, State
from seqlab.optimization.loop import Loop, epoch_seed, learning_rate, make_accelerator, make_optimizer
from seqlab.optimization.options import Options
from seqlab.optimization.state import read_state
from seqlab.presets import default_decoding, default_options
from seqlab.runs.identity import differences, identity, stored_identity
from seqlab.runs.run import Run, TrainingData, load_run, write
from seqlab.runs.start import Start, fingerprint
from seqlab.runtime import processes
from seqlab.runtime.files import exclusive_lock
from seqlab.runtime.progress import Progress, announce
from seqlab.runtime.text import listed
from seqlab.training.evaluate import evaluate
from seqlab.training.evaluate import validated as evaluated_on
from seqlab.training.start import check as check_start
from seqlab.training.start import take_weights
from seqlab.training.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seqlab.datasets.sequences import Batch, Sequences
    from seqlab.datasets.splits import Split
    from seqlab.optimization.tracking import Log

CHECKPOINT = "checkpoint"
"""The folder of a training's checkpoint, and of those of its stages, in `<out>.partial`."""


def fit(
    model: nn.Module,
    split: Split,
    options: Options | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seen_filter: bool | None = None,
    start: Run | None = None,
    track: str = "",
) -> Run:
    """Train a system, keep the epoch that validates best, evaluate it on test, and write its run folder.

    `model` is new, as `models.create` makes it with the seed of the options: its settings identify the run, its weights
    do not. Without `options` those of the preset are taken (see `default_options`).
    `out` is written atomically at the end; until then `<out>.partial` holds the last checkpoints of the training and of
    its stages, from which `resume=True` continues to the same weights as an uninterrupted run (same machine, seed and
    number of processes). A finished run in `out` is loaded by `resume=True` if it is the one that this call would make;
    where only the decoding of `model` is another one, it is measured by that (see `evaluate`), and not trained anew.
    Epochs are compared by the decoding of the preset, whatever that of the model is.
    Ctrl-C stops training and keeps the best epoch so far. Device, precision and processes are Accelerate's.

    With `start` training begins from the weights of that run, which is of the same system, with parameters of the same
    shapes, and on the same items (or on others, for a system with `with_catalogue`). A system with `advance(split)` is
    not trained then: it adds the training part to what that run knows. The start identifies the new run, and is in its
    provenance.

    A system with `stages(split, checkpoint)` trains these first, in single precision and by each process alone. Its
    `begin_epoch(train, epoch)` is called before every epoch, also right after resuming: in evaluation mode, without
    gradients, and with the same random numbers in every process. A system with `calibrate(split, seen_filter)` is
    calibrated on the validation users after training. Its validation metrics are those of a user with what the other
    half of the users chose: twice, it is calibrated on a half that is drawn alike for every training, then on all.

    With `track`, "tensorboard", "mlflow" or "wandb", losses by part, metrics and settings also go to that tracker (see
    `optimization.tracking`); it changes nothing else, and needs an extra of the same name.

    Under `torchrun` several processes train together: all make this call, and each returns the run. A batch still has
    `options.tokens` positions; its rows are distributed in turn. Loss and gradient are means of the whole batch, as in
    one process except for rounding. Two things differ. Each process draws dropout, negatives, masks, cuts and orders
    from the seed `seed * 1_000_003 + epoch + 7_919 * process` (crops and batches are the same for any number). Terms
    between rows use the rows of one process: negatives that a batch shares, the contrast of ReaRec's PRL and the sample
    of its ERL, the paths of REG4Rec's alignment. Process 0 writes and reports. Ctrl-C or an error of one stops all.

    Raises `DataError` for data without what the system or its task needs; `ValueError` for a metric that the task does
    not have, where no user can be evaluated in validation or test, for a `start` that does not fit, where `out` holds
    another run than this one, or a checkpoint of one, and where processes have different settings; `FileExistsError`
    where `out` exists without `resume`; `BlockingIOError` where another training is writing it; `OSError` where it
    cannot be written; `FloatingPointError` where the loss is not finite (the last checkpoint is kept);
    `ConnectionAbortedError` where another process stopped.
    """
    if track:
        tracking.check(track)
    options = options or default_options(model, split)
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    split = with_columns(split, needs_of(model))
    tasks.check(model, split)
    tasks.metric_of(model, split, options.metric)
    if start is not None:
        check_start(model, start, split)
    for part, queries in (("validation", split.valid), ("test", split.test)):
        if not len(queries):
            raise ValueError(
                f"{split.log.name}: no user can be evaluated in the {part} part ({split.name}). "
                f"{' '.join(split.notes)} "
                "Use a log with longer histories, or another split."
            )
    processes.start()
    out = None if out is None else Path(out)
    with contextlib.ExitStack() as held:
        if out is not None:
            with processes.propagate_errors():  # the first looks, and holds the folder, for all
                if processes.index() == 0 and not out.exists():  # a finished run may be read-only
                    held.enter_context(_lock(out))
            _, finished = processes.broadcast({}, "finished" if out.exists() else "")
            if finished and not resume:
                raise FileExistsError(
                    f"{out} exists; choose another folder, or pass resume=True to go on with what is there."
                )
            if finished:
                with processes.propagate_errors():
                    run = _finished_run(out, model, split, options, seen_filter, start)
                return evaluate(run, split, own) if (own := getattr(model, "decoding", None)) else run
        log = held.enter_context(_tracker(track, out, model, split, options, seen_filter))
        run = _train(model, split, options, out, resume, seen_filter, start, log)
        if log is not None:
            log({f"test/{name}": value for name, value in run.metrics["test"].items()}, run.metrics["epochs"])
        return run


def prepare(model: nn.Module, split: Split, checkpoint: Path | None = None) -> None:
    """What a system learns before its main loss: in closed form (`prepare`), or in trained stages (`stages`).

    checkpoint: the folder in which each stage keeps a checkpoint, from which it continues; None: none is kept.
    """
    if supports(model, Prepares):
        model.prepare(split)
    if supports(model, Stages):
        model.stages(split, checkpoint)


def _finished_run(
    out: Path, model: nn.Module, split: Split, options: Options, seen_filter: bool, start: Run | None
) -> Run:
    """The finished run in `out`. Raises `ValueError` where its settings or data differ from this training."""
    try:
        found = stored_identity(out)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out} is no finished run ({error}); choose another folder.") from error
    weights = "" if start is None else fingerprint(start.model)
    if differ := differences(found, identity(model, options, split, seen_filter, found.version, weights)):
        raise ValueError(
            f"{out} holds another finished run: {listed(differ, 6)}. Choose another folder, or the settings of that "
            "run."
        )
    return load_run(out, split)


def _tracker(
    track: str, out: Path | None, model: nn.Module, split: Split, options: Options, seen_filter: bool
) -> contextlib.AbstractContextManager[Log | None]:
    """The tracker of this training, which is given its settings."""
    about = {"system": name_of(model), "dataset": split.log.name, "split": split.name, "seen_filter": seen_filter}
    about |= dataclasses.asdict(model.config) | dataclasses.asdict(options) if track else {}
    return tracking.tracking(track, out, name_of(model) if out is None else out.name, about)


def _train(
    model: nn.Module,
    split: Split,
    options: Options,
    out: Path | None,
    resume: bool,
    seen_filter: bool,
    start: Run | None,
    log: Log | None,
) -> Run:
    partial = None if out is None else _partial(out)
    torch.manual_seed(options.seed)
    started = time.perf_counter()
    validated, begun = evaluated_on(split, options.validate_users), None if start is None else start.as_start()
    advances = start is not None and supports(model, Advances)
    if processes.index() == 0:
        announce(_start_message(model, split, validated, begun))
    with processes.propagate_errors():
        checkpoints = None if partial is None else partial / CHECKPOINT
        if checkpoints is not None and not resume and processes.index() == 0:
            shutil.rmtree(checkpoints, ignore_errors=True)
        parameters = {} if start is None else take_weights(model, start, split)
        if advances:
            model.advance(split)
        else:
            prepare(model, split, checkpoints)
            if start is not None:  # `prepare` may have initialised some of them
                model.load_state_dict(parameters, strict=False)
    if processes.count() > 1:  # all begin with what the first has, to the last bit
        first, _ = processes.broadcast(model.state_dict())
        read_state(model, first, "process 0")
    state, interrupted = State(), False
    if supports(model, Learns) and not advances:
        weights = "" if begun is None else begun.weights
        loop = _loop(model, split, options, partial, Validation(model, validated, options, seen_filter, log), weights)
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
    if supports(model, Calibrates):
        state.valid = _calibrate(model, split, validated, seen_filter)
    elif differs(model, default_decoding(model, split)):  # from that of the epochs
        state.valid = {}
    test = tasks.measure(model, split, "test", seen_filter)
    summary = {
        "test": metrics(test),
        "valid": state.valid or metrics(tasks.measure(model, validated, "valid", seen_filter)),
        "valid_users": len(validated.valid),
        "protocol": test.protocol,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(state.seconds or time.perf_counter() - started, 6),
        "targets_per_second": round(state.targets / state.seconds, 1) if state.seconds else None,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
    }
    trained_on = TrainingData.of(split)
    run = Run(name_of(model), model.eval(), summary, test, state.history, out, interrupted, trained_on, begun)
    if out is None or interrupted:
        return dataclasses.replace(run, folder=None)
    with processes.propagate_errors():  # when one returns, the folder is there
        if processes.index() == 0:
            write(run, split, options, seen_filter, partial)
    return run


def _loop(
    model: nn.Module, split: Split, options: Options, partial: Path | None, validation: Validation, start: str = ""
) -> Loop:
    """The epochs over the training part of a split. start: as in `identity`."""
    chosen = identity(model, options, split, validation.seen_filter, start=start).non_defaults()
    if options.decay == "none":
        chosen["options"].pop("epochs", None)  # a resumed training may have more epochs
    settings = json.dumps(chosen, sort_keys=True)
    accelerator, longest = make_accelerator(options.precision), model.config.max_length
    train, seed = split.train.to(accelerator.device), options.seed
    model.to(accelerator.device)
    batches = model.draw if supports(model, Draws) else functools.partial(_crops, longest)
    loop = Loop(
        model,
        lambda epoch, share: batches(train, options.tokens, epoch, epoch_seed(seed, epoch), share),
        make_optimizer(model, options),
        functools.partial(learning_rate, options),
        options.epochs,
        accelerator,
        Progress(options.epochs, validation.metric.name),
        0 if supports(model, Draws) else split.train.targets_per_epoch(longest),
        seed,
        options.clip,
        (lambda epoch: model.begin_epoch(train, epoch)) if supports(model, BeginsEpoch) else None,
        validation.measure,
        validation.stop,
        None if partial is None else Checkpoint(partial / CHECKPOINT, settings),
        track=validation.log,
        compile=options.compile,
    )
    if len(set(processes.all_gather_text(settings))) > 1:
        raise ValueError("The processes of this training have different data or settings; give all the same.")
    return loop


def _crops(
    max_length: int | None, train: Sequences, tokens: int, epoch: int, seed: int, share: tuple[int, int]
) -> Iterator[Batch]:
    """The batches of an epoch of a system without `draw`."""
    return train.training_batches(max_length, tokens, seed, share)


def _start_message(model: nn.Module, split: Split, validated: Split, start: Start | None) -> str:
    """The first line of output, before the silent first seconds."""
    begun = f" from {start}" if start else ""
    text = f"{name_of(model)}{begun} on {split.log.name}: {split.n_users:,} users, {split.n_items:,} items"
    if supports(model, Learns) and not supports(model, Draws):
        text += f", {split.train.targets_per_epoch(model.config.max_length):,} targets an epoch"
    if len(validated.valid) < len(split.valid):
        text += f"; validation takes {len(validated.valid):,} of {len(split.valid):,} users"
    prepares = supports(model, Prepares) or supports(model, Stages)
    return text + (". Preparing its inputs." if prepares else ".")


def _calibrate(model: nn.Module, split: Split, validated: Split, seen_filter: bool) -> dict[str, float]:
    """Calibrate a system; the metrics of each half of the validated users after a calibration on the other half."""
    users = validated.valid.user.unique()
    drawn = users[torch.randperm(len(users), generator=torch.Generator().manual_seed(0))[: len(users) // 2]]
    first = torch.isin(validated.valid.user, drawn)
    halves = [dataclasses.replace(split, valid=validated.valid.select(one.nonzero()[:, 0])) for one in (first, ~first)]
    found: dict[str, float] = {}
    for chosen_on, measured in (halves, halves[::-1]) if len(users) > 1 else ():
        model.calibrate(chosen_on, seen_filter)
        share = len(measured.valid) / len(validated.valid)
        for name, value in metrics(tasks.measure(model, measured, "valid", seen_filter)).items():
            found[name] = found.get(name, 0.0) + share * value
    model.calibrate(split, seen_filter)
    return found


def _lock(out: Path) -> contextlib.AbstractContextManager:
    """An exclusive lock on the run folder `out`; raises `BlockingIOError` or `OSError` at once where there is none."""
    return exclusive_lock(out, f"Another training is writing {out}; wait for it, or choose another folder.")


def _partial(out: Path) -> Path:
    """The folder of an unfinished run."""
    return out.with_name(out.name + ".partial")
