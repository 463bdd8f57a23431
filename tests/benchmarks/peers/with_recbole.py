"""RecBole's side: its SASRec trained on what seqlab hands over, and its own evaluation; run by its own Python.

    .bench/peers/recbole/bin/python tests/benchmarks/peers/with_recbole.py train amazon-beauty --data .bench/data

Sizes, learning rate and dropout are those of all; everything else is RecBole's default: cross-entropy, every event of
a history a row of its own with all that came before it, 2,048 rows a batch, Adam. Its events are split by itself: the
last of each user, which is the validation answer, is left out. The epochs are those of its Trainer, which is asked
for one after the other so that all libraries are validated by one function. On a GPU: its automatic mixed precision.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import clock
import numpy as np
import protocol
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import Tensor, nn

PACKAGES = ("recbole", "torch", "numpy", "pandas")


def prepare(given):
    """RecBole's configuration, whole dataset, and loaders of training and validation."""
    sys.argv = sys.argv[:1]  # RecBole reads it too
    gpu = given.device == "cuda"
    config = Config("SASRec", given.name, config_dict={
        "data_path": str(given.data), "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "group_by": "user", "mode": "full"},
        "MAX_ITEM_LIST_LENGTH": given.max_length, "hidden_size": protocol.DIM, "n_layers": protocol.LAYERS,
        "n_heads": protocol.HEADS, "hidden_dropout_prob": given.dropout, "attn_dropout_prob": given.dropout,
        "learning_rate": protocol.LEARNING_RATE,
        "train_neg_sample_args": None, "metrics": ["Recall", "NDCG"], "topk": [10], "valid_metric": "NDCG@10",
        "metric_decimal_place": 10, "show_progress": False, "use_gpu": gpu, "enable_amp": gpu, "enable_scaler": gpu,
        "gpu_id": "0" if gpu else "",
    })  # fmt: skip
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, _ = data_preparation(config, dataset)
    return config, dataset, train_data, valid_data


def ids(dataset, field: str) -> Tensor:
    """Our id of each of RecBole's: (n,), 0 for padding."""
    return torch.tensor([0, *map(int, dataset.field2id_token[field][1:])])


class Watched:
    """Training batches, told to the course of training; there are no more when the budget is spent."""

    def __init__(self, batches, course: clock.Course) -> None:
        self.batches, self.course = batches, course

    def __iter__(self) -> Iterator[Interaction]:
        for batch in self.batches:
            yield batch
            if self.course.step(len(batch)):
                return


def train(given) -> None:
    data = protocol.handed(given.folder)
    config, dataset, train_data, valid_data = prepare(given)
    model = SASRec(config, train_data.dataset).to(config["device"])
    trainer, course = Trainer(config, model), clock.Course(given.minutes)
    to_item = ids(dataset, dataset.iid_field)
    asked = valid_data.dataset.inter_feat
    asked = asked[ids(dataset, dataset.uid_field)[asked[dataset.uid_field]].argsort()]
    assert torch.equal(to_item[asked[dataset.iid_field]], data.answers)

    def score(first: int, last: int) -> Tensor:
        scores = model.full_sort_predict(asked[first:last].to(config["device"]))
        return protocol.by_item(scores, to_item, data.n_items)

    done, epoch = False, 0
    while not done:
        course.resume()
        trainer._train_epoch(Watched(train_data, course), epoch)
        course.pause()
        model.eval()
        done, epoch = course.validated(protocol.ndcg_at_10(score, data)), epoch + 1
    protocol.tell(
        given, PACKAGES, curve=course.curve, targets=course.targets, seconds=course.seconds,
        first_batch=course.first_batch, memory_mb=clock.peak_mb(), batch=config["train_batch_size"],
        items=model.n_items - 1,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )  # fmt: skip


class Given(SequentialRecommender):
    """Scores by states that are given."""

    def __init__(self, config, dataset, users: Tensor, items: Tensor) -> None:
        super().__init__(config, dataset)
        self.users, self.items = nn.Parameter(users), nn.Parameter(items)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        return self.users[interaction[self.USER_ID]] @ self.items.T


def evaluate(given) -> None:
    """What its Trainer calls validation: every item ranked, seen ones too, as RecBole has it for sequential systems."""
    config, dataset, _, valid_data = prepare(given)
    states = (torch.from_numpy(np.load(given.folder / f"{name}.npy")) for name in ("users", "items"))
    fields = (dataset.uid_field, dataset.iid_field)
    own = [state[ids(dataset, field)] for state, field in zip(states, fields, strict=True)]
    model = Given(config, dataset, *own).to(config["device"])
    trainer = Trainer(config, model)
    found, cost = clock.measured(lambda: trainer.evaluate(valid_data, load_best_model=False), clock.forget_peak())
    kept = cost | {name: float(found[name]) for name in ("recall@10", "ndcg@10")}
    protocol.tell(given, PACKAGES, users=len(valid_data.dataset), items=len(own[1]) - 1, kept=kept)


if __name__ == "__main__":
    given = protocol.options(__doc__.splitlines()[0])
    torch.set_num_threads(given.threads)
    {"train": train, "evaluate": evaluate}[given.measurement](given)
