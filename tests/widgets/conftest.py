"""A small dataset with hostile titles, and small systems trained on it for one or two epochs."""

import asyncio

import numpy as np
import pandas as pd
import pytest

HOSTILE = {
    1: "<script>alert(1)</script>",
    2: "<img src=x onerror=alert(2)>",
    3: "שלום עולם",
    4: "\u202eevil\u202c reversed",
    5: "🦊" * 40,
    6: "long " * 60,
    7: "",
    8: 'Tom & Jerry\'s "best" <b>of</b>',
    9: "two\nlines\tand tabs",
    10: "%{x} $\\alpha$ {curly}",
}


@pytest.fixture(autouse=True)
def no_running_loop():
    """Playwright in an earlier test leaves its event loop marked as running in this thread."""
    left = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(left)


@pytest.fixture(scope="session")
def split():
    from seqlab.datasets import leave_one_out
    from seqlab.datasets.log import make_log

    random = np.random.default_rng(0)
    rows = [
        (f"u{user}", item, step)
        for user in range(40)
        for step, item in enumerate(random.integers(1, 31, random.integers(4, 14)))
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    items = pd.DataFrame(
        {
            "item": range(1, 31),
            "title": [HOSTILE.get(item, f"Thing {item}") for item in range(1, 31)],
            "shelf": [f"<i>shelf</i> {item % 3}" for item in range(1, 31)],
        }
    )
    log = make_log(events, items=items[items["item"].isin(events["item"])], title="title", repeats=True)
    return leave_one_out(log)


@pytest.fixture(scope="session")
def run(split):
    from seqlab import models
    from seqlab.optimization.options import Options
    from seqlab.training.fit import fit

    settings = {"max_length": 8, "dim": 16, "layers": 2, "heads": 2}
    return fit(models.build("sasrec", split.n_items, settings), split, Options(epochs=2, tokens=128))


@pytest.fixture(scope="session")
def tigers(split):
    """Two small TIGERs with different random codes, trained for one epoch."""
    import torch

    from seqlab import models
    from seqlab.optimization.options import Options
    from seqlab.tokenizers import CodeBook
    from seqlab.training.fit import fit

    sizes = (4, 4, 6)
    settings = {"dim": 16, "layers": 1, "heads": 2, "max_length": 8, "levels": sizes, "resolve": "none"}

    def trained(seed):
        model = models.build("tiger", split.n_items, settings)
        generator = torch.Generator().manual_seed(seed)
        codes = [torch.randint(size, (split.n_items + 1,), generator=generator) for size in sizes]
        model.ids.assign(CodeBook(torch.stack(codes, 1), sizes))
        return fit(model, split, Options(epochs=1, tokens=128, seed=seed))

    return trained(0), trained(1)


@pytest.fixture(scope="session")
def rearec(split):
    """A small ReaRec with two steps, trained for two epochs."""
    from seqlab import models
    from seqlab.optimization.options import Options
    from seqlab.training.fit import fit

    settings = {"max_length": 8, "dim": 16, "layers": 1, "heads": 2, "steps": 2}
    return fit(models.build("rearec", split.n_items, settings), split, Options(epochs=2, tokens=128))


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv("SEQLAB_REPORT", raising=False)


@pytest.fixture
def report(monkeypatch):
    """Rendering a report: creating any control is an error."""
    import ipywidgets

    def forbidden(self, *args, **settings):
        raise AssertionError(f"{type(self).__name__} was created in a report")

    monkeypatch.setenv("SEQLAB_REPORT", "1")
    monkeypatch.setattr(ipywidgets.Widget, "__init__", forbidden)


@pytest.fixture(scope="module")
def runs(run, split):
    """A Transformer of two seeds, the second with invented ranks, and two floors."""
    from seqlab import models
    from seqlab.training.fit import fit

    floors = {name: fit(models.create(name, split), split) for name in ("popularity", "personal_frequency")}
    return {"sasrec": [run, _with_random_ranks(run, 1)], **floors}


def _with_random_ranks(run, seed):
    """A run with random ranks, some of them tied."""
    from dataclasses import replace

    frame = run.outcome.frame
    places = np.random.default_rng(seed).integers(2, 60, len(frame)) / 2
    return replace(run, outcome=replace(run.outcome, frame=frame.assign(rank=places)))
