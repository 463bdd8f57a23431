"""How cost grows with users, catalogue and history length: python tests/benchmarks/growth.py [users items length load]

Everything is measured on logs that are drawn at random here, and called "synthetic" for that: items follow a power law,
nobody's next item hangs on the one before, so only cost can be read from them. Each point is a process of its own, so
that its peak memory is its own. Prints a table with the exponents of the growth (the slope of log cost over log size,
fitted to the three largest), and writes results/growth.csv and reports/growth.html, with the date, the
versions and the machine; what is not asked for keeps its rows.

users: 1,000 to 1,000,000 with 10 events each, 10,000 items: load, split, an epoch's batches, one ranking of everybody.
items: a catalogue of 1,000 to 1,000,000: training steps with full and with sampled softmax, ranking of 1,000 users.
length: histories of 50 to 4,096 events: training steps of 8,192 positions, ranking.
load: 10 million events are loaded, split, trained on once and evaluated; 100 million are loaded and split.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZES = {
    "users": [1_000, 10_000, 100_000, 1_000_000],
    "items": [1_000, 10_000, 100_000, 1_000_000],
    "length": [50, 256, 1_024, 4_096],
    "load": [10_000_000, 100_000_000],
}
TABLE, PICTURE = Path(__file__).parent / "results" / "growth.csv", Path(__file__).parents[2] / "reports" / "growth.html"
ONCE = 2_000_000  # events drawn at a time


def synthetic(path: Path, users: int, items: int, length: int, seed: int = 0) -> None:
    """A Parquet file of `users` with about `length` events each; a part at a time, so that it needs no memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random, writer, clock = np.random.default_rng(seed), None, 1_600_000_000
    for first in range(1, users + 1, step := max(1, ONCE // length)):
        who = np.arange(first, min(first + step, users + 1))
        counts = np.maximum(random.poisson(length, len(who)), 3)
        user = np.repeat(who, counts)
        item = 1 + (items * random.random(len(user)) ** 2.5).astype(np.int64)
        if first == 1:
            item[: min(len(item), items)] = np.arange(1, min(len(item), items) + 1)  # everything is met by somebody
        when = clock + np.cumsum(random.integers(1, 500, len(user)))
        columns = {"user_id": user.astype(np.int32), "item_id": item.astype(np.int32), "timestamp": when}
        part = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part)
    writer.close()


class Clock:
    """Seconds of named steps."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}

    def __call__(self, name: str, action: Callable[[], object], per: float = 1.0) -> object:
        began = time.perf_counter()
        result = action()
        self.told[name] = round((time.perf_counter() - began) / per, 6)
        return result


def steps(model: object, split: object, tokens: int, count: int) -> int:
    """Train for `count` batches; the targets."""
    import torch

    optimizer, targets = torch.optim.AdamW(model.parameters(), fused=True), 0
    for step, batch in enumerate(split.train.training_batches(model.config.max_length, tokens, seed=0)):
        if step == count:
            break
        optimizer.zero_grad(set_to_none=True)
        model.loss(batch).total.backward()
        optimizer.step()
        targets += int((batch.targets > 0).sum())
    return targets


def point(kind: str, size: int, folder: Path) -> dict[str, float]:
    """One measurement, in this process."""
    import dataclasses

    import torch

    from seqlab import datasets, models, tasks
    from seqlab.optimization.options import Options
    from seqlab.training.fit import fit

    users, items, length = {
        "users": (size, 10_000, 10),
        "items": (max(20_000, size // 5), size, 10),
        "length": (200_000 // size, 5_000, size),
        "load": (size // 10, 100_000, 10),
    }[kind]
    path, clock = folder / "synthetic.parquet", Clock()
    synthetic(path, users, items, length)
    clock.told["memory before, GB"] = peak()
    log = clock("load, s", lambda: datasets.read(path))
    split = clock("split, s", lambda: datasets.leave_one_out(log))
    clock.told |= {"events": log.n_events, "items": log.n_items, "loading, peak GB": peak()}
    if kind == "load" and size > 10_000_000:
        return clock.told
    few = dataclasses.replace(split, test=split.test.select(torch.arange(min(1_000, len(split.test)))))
    if kind == "users":
        clock("an epoch's batches, s", lambda: sum(1 for _ in split.train.training_batches(50, 4_096, seed=0)))
        clock("ranking, s", lambda: tasks.measure(models.build("sasrec", log.n_items), split))
    elif kind == "items":
        for loss, count in (("softmax", 3), ("sampled_softmax", 10)):
            model = models.build("sasrec", log.n_items, {"max_length": 50, "loss": loss})
            steps(model, split, 1_024, 1)
            clock(f"a step of 1,024 positions, {loss}, s", lambda m=model, n=count: steps(m, split, 1_024, n), count)
        clock("ranking of 1,000, s", lambda: tasks.measure(model, few))
    elif kind == "length":
        model = models.build("sasrec", log.n_items, {"max_length": size})
        steps(model, split, 8_192, 1)
        clock("a step of 8,192 positions, s", lambda: steps(model, split, 8_192, 5), 5)
        clock("ranking, s per 1,000 events read", lambda: tasks.measure(model, few), len(few.test) * size / 1_000)
    else:
        options = Options(epochs=1, tokens=8_192)
        model = models.build("sasrec", log.n_items, {"max_length": 20, "loss": "sampled_softmax"})
        run = clock("an epoch, and ranking twice, s", lambda: fit(model, split, options))
        clock.told["targets per second"] = run.metrics["targets_per_second"]
    clock.told["peak GB"] = peak()
    return clock.told


def peak() -> float:
    """The most memory this process has had, in GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def exponent(sizes: list[int], costs: list[float]) -> float:
    """The slope of log cost over log size, fitted to the three largest sizes."""
    if len(sizes) < 2 or min(costs) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes[-3:]), np.log(costs[-3:]), 1)[0])


def picture(table: object) -> None:
    """Cost over size on two logarithmic axes, a column for each kind, seconds above memory; exponents at the lines."""
    import plotly.express as px

    measured = table[table["kind"] != "load"]
    long = measured.melt(["kind", "size", "date", "machine"], var_name="what", value_name="cost").dropna()
    long = long[long["what"].str.contains(", s| GB") & ~long["what"].str.startswith("memory")]
    long["cost"] = long["cost"].astype(float)
    long["unit"] = np.where(long["what"].str.endswith("GB"), "GB", "seconds")
    long["exponent"] = ""
    for _, line in long.sort_values("size").groupby(["kind", "what"]):
        slope = exponent(line["size"].tolist(), line["cost"].tolist())
        long.loc[line.index[-1], "exponent"] = f"{slope:.2f}"
    title = f"Cost on synthetic logs, at each line its exponent; {long['date'].max()}, {long['machine'].iloc[0]}"
    figure = px.line(
        long, x="size", y="cost", color="what", symbol="what", facet_col="kind", facet_row="unit", text="exponent",
        log_x=True, log_y=True, facet_col_spacing=0.05, color_discrete_sequence=px.colors.qualitative.Dark24,
        template="plotly_white", height=900, title=title,
    )  # fmt: skip
    panels: dict[tuple[str, str], list] = {}
    for line in figure.data:
        panels.setdefault((line.xaxis, line.yaxis), []).append(line)
    for lines in panels.values():  # neighbours have their exponents on different sides
        for place, line in enumerate(sorted(lines, key=lambda one: one.y[-1])):
            line.update(textposition=("bottom right", "top right")[place % 2], textfont_color=line.line.color)
    for head in figure.layout.annotations:
        head.update(text=head.text.partition("=")[2], xshift=25 if head.textangle else 0)
    figure.update_layout(legend_x=1.06)
    figure.update_traces(cliponaxis=False)
    figure.update_yaxes(title="", dtick=1)
    figure.update_xaxes(matches=None, showticklabels=True, dtick=1)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.write_html(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(SIZES), help="users, items, length, load (all of them)")
    parser.add_argument("--most", type=int, default=10**9, help="the largest size that is measured")
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        kind, size, folder = asked.point
        print(json.dumps(point(kind, int(size), Path(folder))))
        return
    import pandas as pd

    from seqlab.runtime import provenance
    from seqlab.runtime.files import atomic_write

    told, rows = provenance.describe(), []
    for kind in asked.kinds:
        for size in (one for one in SIZES[kind] if one <= asked.most):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--point", kind, str(size), folder]
                done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{kind} {size:,}: ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
                continue
            costs = json.loads(done.stdout.splitlines()[-1])
            print(f"{kind} {size:,}: " + ", ".join(f"{what} {cost:,.6g}" for what, cost in costs.items()), flush=True)
            rows.append({"kind": kind, "size": size, **costs})
    if not rows:
        sys.exit("Nothing was measured.")
    table = pd.DataFrame(rows).assign(
        date=told["date"][:10], machine=f"{told['device']}, {told['threads']} threads", torch=told["versions"]["torch"],
        seqlab=told["versions"]["seqlab"],
    )  # fmt: skip
    for kind, own in table.groupby("kind", sort=False):
        costs = own.drop(columns=["kind", "size", "date", "machine", "torch", "seqlab"]).dropna(axis=1)
        slopes = {name: exponent(own["size"].tolist(), costs[name].tolist()) for name in costs}
        print(f"{kind}, exponents: " + ", ".join(f"{what} {slope:.2f}" for what, slope in slopes.items()))
    if TABLE.exists():  # what was not measured today stays
        key = ["kind", "size"]
        table = pd.concat([pd.read_csv(TABLE), table]).drop_duplicates(key, keep="last").sort_values(key)
    TABLE.parent.mkdir(exist_ok=True)
    atomic_write(TABLE, table.to_csv(index=False))
    picture(table)


if __name__ == "__main__":
    main()
