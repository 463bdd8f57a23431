"""seqlab's side: train SASRec, evaluate, tokenize, on what `hand_over.py` wrote.

    python tests/benchmarks/peers/with_seqlab.py train amazon-beauty --data .bench/data --minutes 5

Sizes, learning rate and dropout are those of all; the batch is that of the dataset's card. Training is
`seqlab.fit`, watched from outside: the clock stands still while it validates. On a GPU: bf16 and torch.compile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import clock
import limit
import numpy as np
import pandas as pd
import protocol
import torch
from torch import Tensor, nn

import seqlab
from seqlab import datasets, evaluation, models, presets, tasks, tokenizers
from seqlab.datasets.log import make_log
from seqlab.datasets.sequences import Batch, Sequences
from seqlab.training import fit


def handed(given) -> datasets.Split:
    """The split, from the file that the others read."""
    events = pd.read_csv(given.folder / "events.csv")
    log = make_log(
        events[["user", "item"]], user="user", item="item", time=None, order="source", name=given.name, repeats=False
    )
    split = datasets.leave_one_out(log)
    assert np.array_equal(split.train.items.numpy(), events["item"][events["part"] == "train"])
    return split


def train(given) -> None:
    split = handed(given)
    preset, length = presets.sections("sasrec")[given.base], given.max_length
    sizes = {"dim": protocol.DIM, "layers": protocol.LAYERS, "heads": protocol.HEADS, "max_length": length}
    model = models.create("sasrec", split, sizes | {"dropout": given.dropout})
    fast = {"precision": "bf16", "compile": True} if given.device == "cuda" else {}
    endless = {"epochs": 10_000, "patience": clock.PATIENCE, "learning_rate": protocol.LEARNING_RATE}
    endless |= {"decay": "none", "validate_every": 1}  # as the others have it
    options = seqlab.Options(**preset.options | endless | fast)
    course, work, rates = clock.Course(given.minutes), limit.Work.of(given), []
    dtype = torch.bfloat16 if given.device == "cuda" else torch.float32
    watch(course, lambda: rates.append(limit.rates(work, dtype, given.device, limit.GLANCE)))
    seqlab.fit(model, split, options)
    memory = clock.peak_mb()
    known = evaluation.metrics(tasks.measure(model, split, "valid"))["ndcg@10"]
    data = protocol.handed(given.folder)

    def score(first: int, last: int) -> Tensor:
        rows = torch.arange(first, last)
        return model.score(split.valid.batch(rows, length).to(given.device))

    common = protocol.ndcg_at_10(score, data)
    protocol.tell(
        given, ("torch", "numpy", "pandas"), curve=course.curve, targets=course.targets, seconds=course.seconds,
        first_batch=course.first_batch, memory_mb=memory, batch=options.tokens, items=split.n_items, rates=rates,
        parameters=sum(parameter.numel() for parameter in model.parameters()), off=abs(known - common),
    )  # fmt: skip


def watch(course: clock.Course, glance: Callable[[], None]) -> None:
    """Have `fit` tell the course of training, and end it where its budget is spent (as Ctrl-C does).

    glance: called after every validation, while the clock stands still.
    """
    batches, rank = Sequences.training_batches, fit.rank

    def training_batches(self, *settings) -> Iterator[Batch]:
        course.resume()
        for batch in batches(self, *settings):
            yield batch
            if course.step(int((batch.targets > 0).sum())) and course.curve:
                course.pause()
                raise KeyboardInterrupt

    def validated(*asked):
        running = course.began is not None
        course.pause()
        ranks = rank(*asked)
        if running:
            course.validated(evaluation.metrics(ranks)["ndcg@10"])
            glance()
        return ranks

    Sequences.training_batches, fit.rank = training_batches, validated


class Given(nn.Module):
    """Scores by states that are given."""

    def __init__(self, users: Tensor, items: Tensor, config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("users", users)
        self.register_buffer("items", items)

    def score(self, batch: Batch) -> Tensor:
        return self.users[batch.user] @ self.items.T


def evaluate(given) -> None:
    split = handed(given)
    states = [torch.from_numpy(np.load(given.folder / f"{name}.npy")).to(given.device) for name in ("users", "items")]
    model = Given(*states, models.configure("sasrec", {"max_length": given.max_length}))
    numbers, before = {}, clock.forget_peak()
    for kind, seen_filter in (("filtered", True), ("kept", False)):

        def path(on=seen_filter):
            return evaluation.metrics(tasks.measure(model, split, "valid", on))

        found, cost = clock.measured(path, before)
        numbers[kind] = cost | {name: found[name] for name in ("recall@10", "ndcg@10")}
    protocol.tell(given, ("torch", "numpy", "pandas"), users=len(split.valid), **numbers)


def tokenize(given) -> None:
    """Residual k-means after at most 1 to 100 steps a level, then RQ-VAE after 5 to 100 epochs, within the budget."""
    import sklearn.cluster  # noqa: F401  (not on the clock)
    import vector_quantize_pytorch  # noqa: F401

    vectors = np.load(given.folder / "vectors.npy")
    sizes = {"levels": protocol.LEVELS, "codes": protocol.CODES}
    arms = [("rq_kmeans", "iterations", steps) for steps in (1, 3, 10, 25, 100)]
    arms += [("rq_vae", "epochs", epochs) for epochs in (5, 20, 100)]
    points, ends = [], time.perf_counter() + 60 * given.minutes
    for name, setting, value in arms:
        if time.perf_counter() > ends:
            break
        tokenizer = tokenizers.create(name, sizes | {setting: value})
        began = time.perf_counter()
        tokenizer.fit(vectors)
        seconds = time.perf_counter() - began
        left = protocol.variance_left(vectors, tokenizer.decode(tokenizer.encode(vectors)))
        points.append({"tool": name, setting: value, "seconds": seconds, "left": left})
    protocol.tell(given, ("torch", "numpy", "scikit-learn"), points=points, memory_mb=clock.peak_mb())


if __name__ == "__main__":
    given = protocol.options(__doc__.splitlines()[0])
    torch.set_num_threads(given.threads)
    {"train": train, "evaluate": evaluate, "tokenize": tokenize}[given.measurement](given)
