"""Experiment trackers of a training: TensorBoard, MLflow or Weights & Biases, through Accelerate's trackers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TITLES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases"}
"""The trackers; each is the name of its package and of its extra."""

PROJECT = "seqlab"
"""The experiment of MLflow and the project of Weights & Biases."""

LOCAL = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variables that keep everything on this machine; those that are set already stay."""

Log = Callable[[Mapping[str, float], int], None]
"""Logs values by name at an epoch."""


def check(name: str) -> None:
    """Raise `ValueError` for an unknown tracker, and `ImportError` for one whose package is not installed."""
    if name not in TITLES:
        raise ValueError(f"there is no tracker {name!r}.{did_you_mean(name, TITLES)} There are: {', '.join(TITLES)}.")
    if importlib.util.find_spec(name) is None:
        raise ImportError(
            f"Tracking with {TITLES[name]} needs a package that is not installed: pip install 'seqlab[{name}]'."
        )


def folder_of(out: Path | None) -> Path:
    """The folder in which the trackers keep the run that is written to `out`: beside it, for all runs there."""
    return Path("tracking") if out is None else out.parent / "tracking"


def where(name: str, out: Path | None) -> str:
    """How to look at what was tracked, in a sentence."""
    folder = folder_of(out)
    if name == "tensorboard":
        return f"Tracked in {folder}: tensorboard --logdir {folder}"
    if name == "mlflow":
        server = os.environ.get("MLFLOW_TRACKING_URI")
        return f"Tracked at {server}" if server else f"Tracked in {folder}: mlflow ui --backend-store-uri {_store(out)}"
    online = os.environ.get("WANDB_MODE", LOCAL["WANDB_MODE"]) == "online"
    return "Tracked by Weights & Biases." if online else f"Tracked in {folder}; `wandb sync` sends it."


@contextlib.contextmanager
def tracking(name: str, out: Path | None, run: str, settings: Mapping[str, Any]) -> Iterator[Log | None]:
    """A tracker that is open for the block, as a function that logs values; None for the name "".

    out: the folder of the run (None: none), beside which the tracker keeps its files. run: its name for the tracker.
    settings: of the training, any values. Of several processes only the first writes. Nothing leaves the machine unless
    an environment variable of the tracker says so: MLFLOW_TRACKING_URI, WANDB_MODE=online. A training that is resumed
    continues its TensorBoard log; for the other trackers it is a further run of that name. Raises what `check` does.
    """
    if not name:
        yield None
        return
    check(name)
    for key, value in LOCAL.items():
        os.environ.setdefault(key, value)
    server = os.environ.get("MLFLOW_TRACKING_URI")
    tracker = _start(name, out, run)
    try:
        tracker.store_init_configuration({_plain_name(key): _scalar(value) for key, value in settings.items()})
        yield lambda values, epoch: tracker.log(
            {_plain_name(key): float(value) for key, value in values.items()}, step=epoch
        )
    finally:
        tracker.finish()
        if name == "mlflow" and not server:  # the next training may be kept elsewhere
            _use_store(None)


def _start(name: str, out: Path | None, run: str) -> GeneralTracker:
    from accelerate.state import PartialState
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    PartialState()  # the trackers ask it which process this is
    folder = folder_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        tracker = TensorBoardTracker(run, folder)
    elif name == "mlflow":
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            _use_store(_store(out))
        tracker = MLflowTracker(PROJECT, run_name=run)
    else:
        tracker = WandBTracker(PROJECT, name=run, dir=str(folder))
    tracker.start()
    return tracker


def _use_store(address: str | None) -> None:
    import mlflow

    mlflow.set_tracking_uri(address)  # sets MLFLOW_TRACKING_URI too


def _store(out: Path | None) -> str:
    """The address of MLflow's local database."""
    return f"sqlite:///{(folder_of(out) / 'mlflow.db').absolute()}"


def _plain_name(name: str) -> str:
    """A name that every tracker takes: ndcg@10 is ndcg_at_10."""
    return re.sub(r"[^\w./-]+", "_", name.replace("@", "_at_"))


def _scalar(value: Any) -> bool | int | float | str:
    """A setting as a value that every tracker takes."""
    return value if isinstance(value, bool | int | float | str) else str(value)
