"""RecTools' side: its SASRecModel trained on what seqlab hands over, and its own evaluation; run by its own Python.

    .bench/peers/rectools/bin/python tests/benchmarks/peers/with_rectools.py train amazon-beauty --data .bench/data

Sizes, learning rate and dropout are those of all; everything else is RecTools' default: batches of 128 users, left
padding to the longest history allowed, no loader processes, Adam with betas .9 and .98, its own block (a feed-forward
layer as wide as the model, dropout on attention weights). Its Trainer is the default one and a callback that watches.
On a GPU: Lightning's bf16-mixed.
"""

from __future__ import annotations

import clock
import numpy as np
import pandas as pd
import protocol
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from torch import Tensor

PACKAGES = ("rectools", "pytorch-lightning", "torch", "numpy", "pandas")


def dataset(data: protocol.Handed) -> Dataset:
    """The training events; a later row is a later moment."""
    frame = data.train.set_axis([Columns.User, Columns.Item], axis=1)
    moments = pd.to_datetime(np.arange(len(frame)), unit="s")
    return Dataset.construct(frame.assign(**{Columns.Weight: 1.0, Columns.Datetime: moments}))


class Watch(Callback):
    """Tells the course of training and validates after every epoch, and when the budget is spent."""

    def __init__(self, course: clock.Course, data: protocol.Handed) -> None:
        self.course, self.data, self.loader = course, data, None

    def __deepcopy__(self, memo: dict) -> Watch:
        return self  # RecTools trains with a copy of its trainer

    def on_train_epoch_start(self, trainer, module) -> None:
        self.course.resume()

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        if self.course.step(int((batch["y"] > 0).sum())):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer, module) -> None:
        self.course.pause()
        if self.course.validated(protocol.ndcg_at_10(self.scores(module), self.data)):
            trainer.should_stop = True
        module.train()

    def scores(self, module):
        """Scores of the users by the states that RecTools recommends from."""
        preparator = module.data_preparator
        if self.loader is None:
            users = np.arange(1, len(self.data.answers) + 1)
            asked = preparator.transform_dataset_u2i(dataset(self.data), users)
            assert np.array_equal(asked.user_id_map.external_ids, users)
            self.loader = preparator.get_dataloader_recommend(asked, 256)
        states, items = module._get_user_item_embeddings(self.loader, str(module.device))
        ids = torch.tensor(preparator.get_known_item_ids().tolist())
        items = items[preparator.n_item_extra_tokens :]

        def score(first: int, last: int) -> Tensor:
            return protocol.by_item(states[first:last].to(items.device) @ items.T, ids, self.data.n_items)

        return score


def sasrec(given, max_length: int, **settings) -> SASRecModel:
    return SASRecModel(
        n_blocks=protocol.LAYERS, n_heads=protocol.HEADS, n_factors=protocol.DIM, dropout_rate=given.dropout,
        lr=protocol.LEARNING_RATE, session_max_len=max_length, loss="softmax", recommend_torch_device=given.device,
        **settings,
    )  # fmt: skip


def train(given) -> None:
    data = protocol.handed(given.folder)
    course = clock.Course(given.minutes)
    model = sasrec(given, given.max_length)
    model._trainer = Trainer(  # RecTools' default one, without an end, and watched
        max_epochs=10_000, min_epochs=0, enable_progress_bar=False, enable_model_summary=False, logger=False,
        enable_checkpointing=False, devices=1, callbacks=[Watch(course, data)],
        accelerator="gpu" if given.device == "cuda" else "cpu",
        precision="bf16-mixed" if given.device == "cuda" else "32-true",
    )  # fmt: skip
    model.fit(dataset(data))
    protocol.tell(
        given, PACKAGES, curve=course.curve, targets=course.targets, seconds=course.seconds,
        first_batch=course.first_batch, memory_mb=clock.peak_mb(), batch=model.batch_size,
        items=len(model.data_preparator.get_known_item_ids()),
        parameters=sum(parameter.numel() for parameter in model.torch_model.parameters()),
    )  # fmt: skip


class Given(TransformerLightningModule):
    """Scores by states that are given."""

    states: tuple[Tensor, Tensor]

    def _get_user_item_embeddings(self, recommend_dataloader, torch_device):
        return self.states


def evaluate(given) -> None:
    """What RecTools documents: `recommend` the best ten of every user, then `calc_metrics`; with and without filter."""
    data = protocol.handed(given.folder)
    known, users = dataset(data), np.arange(1, len(data.answers) + 1)
    longest = int(data.starts.diff().max())  # it knows the items of what it reads alone, and here it is to rank all
    model = sasrec(given, longest, lightning_module_type=Given)
    model._build_model_from_dataset(known)
    model.is_fitted = True
    order = model.data_preparator.get_known_item_ids().astype(int)
    states, items = (torch.from_numpy(np.load(given.folder / f"{name}.npy")) for name in ("users", "items"))
    model.lightning_model.states = states[1:], torch.cat([items[:1], items[torch.from_numpy(order)]]).to(given.device)
    answers = pd.DataFrame({Columns.User: users, Columns.Item: data.answers.numpy()})
    metrics = {"recall@10": HitRate(k=10), "ndcg@10": NDCG(k=10, divide_by_achievable=True)}
    numbers, before = {}, clock.forget_peak()
    for kind, seen_filter in (("filtered", True), ("kept", False)):

        def path(on=seen_filter):
            return calc_metrics(metrics, model.recommend(users, known, k=10, filter_viewed=on), answers)

        found, cost = clock.measured(path, before)
        numbers[kind] = cost | {name: float(found[name]) for name in metrics}
    protocol.tell(given, PACKAGES, users=len(users), items=len(order), **numbers)


if __name__ == "__main__":
    given = protocol.options(__doc__.splitlines()[0])
    torch.set_num_threads(given.threads)
    {"train": train, "evaluate": evaluate}[given.measurement](given)
