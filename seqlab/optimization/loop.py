"""The epoch loop: gradients, learning rate, one process or several, progress and checkpoints; it knows no split."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.runtime import processes
from seqlab.runtime.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from accelerate import Accelerator

    from seqlab.contracts import Loss
    from seqlab.datasets.sequences import Batch
    from seqlab.optimization.checkpoint import Checkpoint, State
    from seqlab.optimization.options import Options


class _Objective(nn.Module):
    """`model.loss` as a forward pass, which is what Accelerate and torch.compile wrap."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Loss:
        return self.model.loss(batch)


class Loop:
    """The epochs of one training.

    batches(seed, (process, processes)): an epoch's batches, this process's rows of them, on the accelerator's device.
    targets: those of an epoch, for the progress. validate(state): what the epoch's row of the history gains; it may
    keep the weights in `state.best`. stop(state): why training ends before its last epoch, or "".
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int, tuple[int, int]], Iterable[Batch]],
        targets: int,
        options: Options,
        accelerator: Accelerator,
        validate: Callable[[State], dict[str, float]],
        stop: Callable[[State], str],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.model, self.batches, self.targets, self.options = model, batches, targets, options
        self.accelerator, self.validate, self.stop, self.checkpoint = accelerator, validate, stop, checkpoint
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

    def run(self, state: State) -> None:
        with Progress(self.options.epochs, self.options.metric) as progress, processes.defer_interrupt(self.pressed):
            while state.epoch < self.options.epochs:
                if why := self.stop(state):
                    progress.write(why)
                    break
                self._epoch(state, progress)
                with processes.propagate_errors():
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
        for batch in self.batches(seed, share):
            rate = _rate(options, step + steps + 1, done)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss, count, learned_from = self._learn(batch) if processes.count() == 1 else self._learn_together(batch)
            self.accelerator.clip_grad_norm_(self.parameters, options.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss
            steps += 1
            targets += int(count)
            learned += int(learned_from)
            if steps % 20 == 0:
                mean = float(total) / steps
                self._must_be_finite(mean, state.epoch, steps, rate)
                progress.step(
                    state.epoch, targets / max(self.targets, 1), learned / (time.perf_counter() - began), mean
                )
        mean = float(total) / max(steps, 1)
        self._must_be_finite(mean, state.epoch, steps, options.learning_rate)
        state.seconds += time.perf_counter() - began
        state.targets += learned
        state.epoch += 1
        row = {"epoch": state.epoch, "loss": mean, "steps": steps}
        row |= self.validate(state)
        state.history.append(row | {"seconds": round(time.perf_counter() - began, 3)})
        progress.epoch(state.history[-1], learned / (state.seconds / state.epoch), state.best_epoch)

    def _learn(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | int]:
        """Leave the gradient of the loss in the parameters; the loss, the targets, and how many were learned from."""
        loss, targets = self._backward(batch), (batch.targets > 0).sum()
        return loss.total.detach(), targets, targets if loss.count is None else loss.count

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
        targets = (batch.targets > 0).sum()
        loss, weight, failure = torch.zeros((), device=targets.device), targets, None
        try:
            if self.pressed.is_set():
                raise KeyboardInterrupt
            if len(batch):
                found = self._backward(batch)
                loss, weight = found.total.detach(), targets if found.count is None else targets.new_tensor(found.count)
            elif self.accelerator.scaler is not None:
                self.accelerator.scaler.scale(loss)  # it must have seen a loss before it sees gradients
        except BaseException as error:
            failure = error
        own = [parameter.grad for parameter in self.parameters]
        has = targets.new_tensor([grad is not None for grad in own])
        sums = torch.stack([loss.float() * weight, weight, targets, targets.new_tensor(failure is not None)])
        flat = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(self.parameters, own, strict=True)]
        flat = processes.all_reduce_sum(torch.cat([*(grad.flatten() * weight for grad in flat), has, sums]))
        *gradients, has, sums = flat.split([*(parameter.numel() for parameter in self.parameters), len(has), len(sums)])
        loss, weight, targets, failed = sums
        if failed:
            processes.barrier(failure)
        for parameter, gradient, somewhere in zip(self.parameters, gradients, has.tolist(), strict=True):
            parameter.grad = gradient.div_(weight).view_as(parameter) if somewhere else None
        return loss / weight, targets, weight

    def _must_be_finite(self, loss: float, epoch: int, step: int, rate: float) -> None:
        if loss != loss or loss in (float("inf"), float("-inf")):
            kept = f" The checkpoint of epoch {epoch} is kept." if self.checkpoint is not None and epoch else ""
            raise FloatingPointError(
                f"The loss is not finite ({loss}) in epoch {epoch + 1}, by batch {step}, learning rate {rate:g}. "
                f"Lower learning_rate, or turn precision to 'no'.{kept}"
            )


def _rate(options: Options, step: int, share: float) -> float:
    """The learning rate of a step, the first of which is 1, in an epoch before which `share` of all epochs are done."""
    rate = options.learning_rate * min(1.0, step / max(options.warmup, 1))
    return rate if options.decay == "none" else rate * (1 + math.cos(math.pi * share)) / 2


def make_accelerator(precision: str) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # precision is a setting of the process in Accelerate; here it is one of the run
    AcceleratorState._reset_state(reset_partial_state=False)
    return Accelerator(mixed_precision=precision)
