"""The epoch loop: gradients, learning rate, one process or several, progress and checkpoints."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab.runtime import processes
from seqlab.runtime.modules import evaluating
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

    def forward(self, batch: Any) -> Loss:
        return self.model.loss(batch)


@dataclass(eq=False)
class Loop:
    """The epochs of one training of a module with `loss(batch) -> Loss`.

    batches(epoch, (process, processes)): the batches of an epoch (from 0), this process's rows of them, on the
    accelerator's device. optimizer: of the parameters of `model`. rate(step, epoch): the learning rate of a step (from
    1). targets: per epoch, for the progress. seed: epoch e draws from `epoch_seed(seed, e)`; None: the random numbers
    continue from epoch to epoch, and the checkpoint holds the state of their generators. clip: largest norm of the
    gradient. before_epoch(epoch): called before every epoch in evaluation mode, without gradients and, with a seed, by
    every process with the same random numbers. after_epoch(state): further columns of the epoch's row in the history;
    it may keep the weights in `state.best`. stop(state): why training ends before its last epoch, or "". loss_parts:
    the row has the means of the loss's parts. track(values, epoch): called after every epoch with the loss and its
    parts, the learning rate and the speed. distributed: several processes share each batch; if not, every process
    trains on the whole of it.
    """

    model: nn.Module
    batches: Callable[[int, tuple[int, int]], Iterable[Any]]
    optimizer: torch.optim.Optimizer
    rate: Callable[[int, int], float]
    epochs: int
    accelerator: Accelerator
    progress: Progress
    targets: int = 0
    seed: int | None = None
    clip: float = math.inf
    before_epoch: Callable[[int], None] | None = None
    after_epoch: Callable[[State], dict[str, float]] = lambda _: {}
    stop: Callable[[State], str] = lambda _: ""
    checkpoint: Checkpoint | None = None
    loss_parts: bool = False
    track: Callable[[dict[str, float], int], None] | None = None
    compile: bool = False
    distributed: bool = True

    def __post_init__(self) -> None:
        self.distributed = self.distributed and processes.count() > 1
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # without DDP: see `_learn_together`
        self.objective = self.accelerator.prepare_model(_Objective(self.model), evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(self.optimizer)
        self.pressed = threading.Event()  # Ctrl-C, among several processes
        if self.compile:
            self.objective = torch.compile(self.objective, dynamic=True)

    def run(self, state: State) -> None:
        """Train from the epoch in `state` to the last one, or until `stop`; a checkpoint follows every epoch."""
        set_random_state(state.random)
        with self.progress as progress, processes.defer_interrupt(self.pressed):
            while state.epoch < self.epochs:
                if why := self.stop(state):
                    progress.write(why)
                    break
                self._epoch(state)
                with processes.propagate_errors():
                    if self.checkpoint is not None and processes.index() == 0:
                        state.random = {} if self.seed is not None else random_state()
                        self.checkpoint.save(state, self.model, self.optimizer)
                    if self.pressed.is_set():
                        raise KeyboardInterrupt

    def _epoch(self, state: State) -> None:
        began = time.perf_counter()
        if self.before_epoch is not None:
            if self.seed is not None:
                torch.manual_seed(epoch_seed(self.seed, state.epoch))
            with processes.propagate_errors(), evaluating(self.model), torch.no_grad():
                self.before_epoch(state.epoch)
        if self.seed is not None:  # an epoch is the same whether or not it was resumed at
            torch.manual_seed(epoch_seed(self.seed, state.epoch) + processes.index() * 7_919)
        self.model.train()
        total, steps, targets, learned = torch.zeros((), device=self.accelerator.device), 0, 0, 0
        parts: dict[str, Tensor | float] = {}
        step = sum(int(row["steps"]) for row in state.history)
        share = (processes.index(), processes.count()) if self.distributed else (0, 1)
        learn = self._learn_together if self.distributed else self._learn
        for batch in self.batches(state.epoch, share):
            rate = self.rate(step + steps + 1, state.epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("share", 1.0)
            loss, count, learned_from = learn(batch, parts)
            if self.clip < math.inf:
                self.accelerator.clip_grad_norm_(self.parameters, self.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss
            steps += 1
            targets += int(count)
            learned += int(learned_from)
            if steps % 20 == 0:
                mean = float(total) / steps
                self._must_be_finite(mean, state.epoch, steps, rate)
                speed = learned / (time.perf_counter() - began)
                self.progress.step(state.epoch, targets / max(self.targets, 1), speed, mean)
        mean = float(total) / max(steps, 1)
        self._must_be_finite(mean, state.epoch, steps, self.rate(step + max(steps, 1), state.epoch))
        state.seconds += time.perf_counter() - began
        state.targets += learned
        state.epoch += 1
        means = {name: part / max(learned, 1) for name, part in self._summed(parts).items()}
        row = {"epoch": state.epoch, "loss": mean, "steps": steps} | (means if self.loss_parts else {})
        if self.track is not None:
            speed = learned / (time.perf_counter() - began)
            values = {"loss": mean, "learning_rate": self.rate(step + max(steps, 1), state.epoch - 1)}
            values |= {f"loss/{name}": value for name, value in means.items()} | {"targets_per_second": speed}
            self.track(values, state.epoch)
        row |= self.after_epoch(state)
        state.history.append(row | {"seconds": round(time.perf_counter() - began, 3)})
        self.progress.epoch(state.history[-1], learned / (state.seconds / state.epoch), state.best_epoch)

    def _learn(self, batch: Any, parts: dict[str, Tensor | float]) -> tuple[Tensor, Tensor | int, Tensor | int]:
        """Leave the gradient of the loss in the parameters; the loss, the targets, and how many were learned from.

        A batch without `targets` has as many as its loss is a mean over. The parts of the loss are added to `parts`.
        """
        loss = self._backward(batch)
        targets = (batch.targets > 0).sum() if hasattr(batch, "targets") else loss.count
        count = targets if loss.count is None else loss.count
        self._add(loss, count, parts)
        return loss.total.detach(), targets, count

    def _add(self, loss: Loss, count: Tensor | int, parts: dict[str, Tensor | float]) -> None:
        """Add the parts of a loss, means over `count` targets, to their sums."""
        if self.loss_parts or self.track is not None:
            for name, part in loss.parts.items():
                parts[name] = parts.get(name, 0.0) + part * count

    def _summed(self, parts: dict[str, Tensor | float]) -> dict[str, float]:
        """The sums of parts over the processes, which may have seen different ones."""
        own = {name: float(part) for name, part in parts.items()}
        if not self.distributed or self.track is None:
            return own
        every = [json.loads(text) for text in processes.all_gather_text(json.dumps(own))]
        return {
            name: sum(one.get(name, 0.0) for one in every) for name in dict.fromkeys(n for one in every for n in one)
        }

    def _backward(self, batch: Any) -> Loss:
        with self.accelerator.autocast():
            loss = self.objective(batch)
        self.accelerator.backward(loss.total)
        return loss

    def _learn_together(self, batch: Batch, parts: dict[str, Tensor | float]) -> tuple[Tensor, Tensor, Tensor]:
        """`_learn` where each process holds some rows of the batch, or none.

        Every process's mean is weighed by the answers it is a mean over; their sum is the mean over the whole batch.
        DDP would weigh all processes alike, stall where one has no rows, and search every step for parameters without a
        gradient; one sum of one flat tensor needs none of that, and includes whether a process failed.
        """
        targets = (batch.targets > 0).sum()
        loss, weight, failure = torch.zeros((), device=targets.device), targets, None
        try:
            if self.pressed.is_set():
                raise KeyboardInterrupt
            if len(batch):
                found = self._backward(batch)
                loss, weight = found.total.detach(), targets if found.count is None else targets.new_tensor(found.count)
                self._add(found, weight, parts)
            elif self.accelerator.scaler is not None:
                self.accelerator.scaler.scale(loss)  # it must have seen a loss before it sees gradients
        except BaseException as error:
            failure = error
        grads = [parameter.grad for parameter in self.parameters]
        has = targets.new_tensor([grad is not None for grad in grads])
        sums = torch.stack([loss.float() * weight, weight, targets, targets.new_tensor(failure is not None)])
        flat = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(self.parameters, grads, strict=True)]
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


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch (from 0) of a training."""
    return seed * 1_000_003 + epoch


def cosine(share: float) -> float:
    """The part of the learning rate that is left when `share` of a training is done (Loshchilov & Hutter 2017)."""
    return (1 + math.cos(math.pi * share)) / 2


SLOW = 1e-3
"""The largest learning rate of the parameters that a module names in `slow`."""


def make_optimizer(model: nn.Module, options: Options) -> torch.optim.Optimizer:
    """The optimizer that the options name, for the parameters of a model that is on its device.

    A module may name some of its own parameters in two attributes: `undecayed`, which have no weight decay, and `slow`,
    whose learning rate is at most `SLOW`, as for the dynamics of state-space models. A group's "share" is its part of
    the learning rate.
    """
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimizer]
    seen: set[nn.Parameter] = set()
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                decay = 0.0 if name in getattr(module, "undecayed", ()) else options.weight_decay
                slow = name in getattr(module, "slow", ())
                share = min(1.0, SLOW / options.learning_rate) if slow else 1.0
                members.setdefault((decay, share), []).append(parameter)
                seen.add(parameter)
    groups = [{"params": group, "weight_decay": decay, "share": share} for (decay, share), group in members.items()]
    return kind(groups, options.learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate(options: Options, step: int, epoch: int) -> float:
    """The learning rate of a step (from 1) in an epoch (from 0)."""
    rate = options.learning_rate * min(1.0, step / max(options.warmup, 1))
    return rate if options.decay == "none" else rate * cosine(epoch / options.epochs)


def random_state() -> dict[str, Tensor]:
    """The states of torch's random number generators: of the CPU and, where there is one, of the CUDA device."""
    found = {"cpu": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Tensor]) -> None:
    """Set the generators to what `random_state` returned; {} changes nothing."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def make_accelerator(precision: str) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # precision is a setting of the process in Accelerate; here it is one of the run
    AcceleratorState._reset_state(reset_partial_state=False)
    return Accelerator(mixed_precision=precision)
