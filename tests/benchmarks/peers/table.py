"""From the numbers of the pieces (see compare.py) to a Markdown table of ratios."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import raw

GOALS = {("amazon-beauty", "rectools"): 30.0, ("ml-1m", "rectools"): 3.0}  # in time to equal quality
SHARE_GOAL, EVALUATION_GOAL = 0.6, 3.0
BUSY = 0.8  # of a core, which a measurement has for itself on an idle machine
ENOUGH = 0.95  # of the peer's best NDCG@10
NAMES = {"seqlab": "seqlab", "rectools": "RecTools", "recbole": "RecBole"}


def write(told: dict[str, dict[str, Any]], missing: list[str], folder: Path) -> str:
    """Write peers.md and peers.csv; returns the Markdown."""
    parts = [part for section in (to_quality, training, limit, evaluation, tokenizers) if (part := section(told))]
    notes = Path(__file__).with_name("notes.md").read_text(encoding="utf-8").strip()
    text = "\n\n".join(["# Side by side with the peers", provenance(told), *parts, "## Notes", notes])
    if missing:
        text += "\n\nNot measured: " + ", ".join(missing) + "."
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.md").write_text(text + "\n", encoding="utf-8")
    (folder / "peers.csv").write_text(raw.table(told), encoding="utf-8")
    return text


def provenance(told: dict[str, dict[str, Any]]) -> str:
    """When, where, and with which versions."""
    dates = sorted({one["date"][:10] for one in told.values()})
    where = {f"{one['machine']}; {one['device']}, {one['threads']} threads" for one in told.values()}
    revisions = sorted({str(one["revision"]) for one in told.values()})
    versions = {f"{name} {found}" for one in told.values() for name, found in one["versions"].items()}
    text = f"Made by `make bench`, {', '.join(dates)}. {' | '.join(sorted(where))}. seqlab {', '.join(revisions)}; "
    text += f"{', '.join(sorted(versions))}."
    if starved := [name for name, one in told.items() if one["cpu_seconds"] < BUSY * one["wall_seconds"]]:
        text += f"\n\n**The machine was not idle**: less than {BUSY:.0%} of a core was left for {', '.join(starved)}."
    return text


def grid(title: str, heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table under a heading; nothing where there are no rows."""
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def against(told: dict, measurement: str) -> Iterator[tuple[str, str, dict, dict | None]]:
    """Of each finished piece: dataset, library, its numbers, and ours."""
    for one in told.values():
        if one["measurement"] == measurement:
            ours = told.get(f"{measurement}.{one['dataset']}.seqlab")
            yield one["dataset"], one["library"], one["numbers"], ours and ours["numbers"]


def seconds_to(curve: list[dict[str, float]], value: float) -> float | None:
    """Seconds of training until NDCG@10 = value, on the line between validations; None if it never is."""
    before, seconds = 0.0, 0.0
    for point in curve:
        if point["ndcg@10"] >= value:
            share = (value - before) / (point["ndcg@10"] - before) if point["ndcg@10"] > before else 1.0
            return seconds + share * (point["seconds"] - seconds)
        before, seconds = point["ndcg@10"], point["seconds"]
    return None


def times(ratio: float | None, goal: float | None = None) -> str:
    """A ratio in words, with its goal."""
    told = "-" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"
    return told if goal is None else f"{told} (goal {goal:g}{'' if ratio and ratio >= goal else ': missed'})"


def best_of(curve: list[dict[str, float]]) -> tuple[float, int]:
    """The best NDCG@10 and which validation found it, from 1."""
    values = [point["ndcg@10"] for point in curve]
    return max(values), 1 + values.index(max(values))


def to_quality(told: dict) -> str:
    rows = []
    for name, library, theirs, ours in against(told, "train"):
        if library == "seqlab" or ours is None:
            continue
        best, at = best_of(theirs["curve"])
        rising = " (still rising)" if at == len(theirs["curve"]) else ""
        reached = [seconds_to(side["curve"], ENOUGH * best) for side in (theirs, ours)]
        ratio = reached[0] / reached[1] if reached[1] else None
        seconds = [f"{one:,.0f}" if one is not None else "never" for one in reached]
        values = [f"{best:.4f}{rising}", f"{ENOUGH * best:.4f}", f"{best_of(ours['curve'])[0]:.4f}"]
        rows.append([name, NAMES[library], *values, *seconds, times(ratio, GOALS.get((name, library)))])
    heads = ["dataset", "peer", "peer's best NDCG@10", "95 % of it", "seqlab's best", "peer, s", "seqlab, s",
             "times as fast"]  # fmt: skip
    return grid("Seconds of training until validation NDCG@10 is 95 % of the peer's best", heads, rows)


def training(told: dict) -> str:
    rows = []
    for name, library, numbers, ours in against(told, "train"):
        (best, at), count = best_of(numbers["curve"]), len(numbers["curve"])
        speed = numbers["targets"] / numbers["seconds"]
        ratio = ours["targets"] / ours["seconds"] / speed if ours else None
        budget = told[f"train.{name}.{library}"]["minutes"]
        rising = ", still rising" if at == count else ""
        rows.append(
            [name, NAMES[library], f"{speed:,.0f}", times(ratio), f"{best:.4f} (validation {at} of {count}{rising})",
             f"{numbers['seconds']:,.0f} of {60 * budget:,.0f}", f"{numbers['targets']:,}",
             f"{numbers['memory_mb']:,.0f}", f"{numbers['first_batch']:.1f}", f"{numbers['parameters']:,}",
             f"{numbers['items']:,}"]
        )  # fmt: skip
    heads = ["dataset", "library", "true targets/s", "seqlab is times as fast", "best validation NDCG@10",
             "training, s of budget", "targets seen", "peak memory, MB", "start to first step, s", "weights",
             "items known"]  # fmt: skip
    return grid("Training SASRec", heads, rows)


def limit(told: dict) -> str:
    rows = []
    for name, _, numbers, _ in against(told, "limit"):
        needed = sum(numbers["multiply_adds"].values())
        ours = told.get(f"train.{name}.seqlab")
        speed = ours["numbers"]["targets"] / ours["numbers"]["seconds"] if ours else None
        parts = ", ".join(f"{kind} {part / needed:.0%}" for kind, part in numbers["multiply_adds"].items())
        trained_in = "bfloat16" if ours and ours["device"] == "cuda" else "float32"
        for precision in ("float32", "bfloat16"):
            for shape, said in (("shapes", "the shapes in use"), ("cube", "squares of 1,024")):
                rate, reached = numbers[precision][shape], "-"
                if speed is not None and precision == trained_in:
                    rate = median([one[shape] for one in ours["numbers"]["rates"]] or [rate])
                    share = speed * needed / rate
                    reached = f"{share:.0%}"
                    if shape == "shapes":
                        reached += f" (goal {SHARE_GOAL:.0%}{'' if share >= SHARE_GOAL else ': missed'})"
                rows.append(
                    [name, f"{needed / 1e6:.2f} ({parts})", f"{precision}, {said}", f"{rate / 1e9:.2f}",
                     f"{rate / needed:,.0f}", "-" if speed is None else f"{speed:,.0f}", reached]
                )  # fmt: skip
    heads = ["dataset", "million multiply-adds a target", "machine's rate of", "10^9 multiply-adds/s",
             "targets/s possible", "seqlab, targets/s", "reached"]  # fmt: skip
    return grid("The physical limit", heads, rows)


def evaluation(told: dict) -> str:
    rows = []
    for name, library, numbers, ours in against(told, "evaluate"):
        for kind in ("filtered", "kept"):
            if kind not in numbers:
                continue
            own = numbers[kind]
            ratio = own["seconds"] / ours[kind]["seconds"] if ours else None
            off = max(abs(own[m] - ours[kind][m]) for m in ("recall@10", "ndcg@10")) if ours else None
            goal = None if library == "seqlab" else EVALUATION_GOAL
            agrees = "-" if off is None else f"{off:.0e}" + ("" if off <= 1e-6 else ": NOT EQUAL")
            rows.append(
                [name, NAMES[library], kind, f"{numbers['users'] / own['seconds']:,.0f}", times(ratio, goal),
                 f"{own['ndcg@10']:.8f}", agrees, f"{own['memory_mb']:,.0f}"]
            )  # fmt: skip
    heads = ["dataset", "library", "seen items", "users/s", "seqlab is times as fast", "NDCG@10", "off ours by",
             "memory, MB"]  # fmt: skip
    return grid("Evaluation of the whole catalogue, from the same scores", heads, rows)


def tokenizers(told: dict) -> str:
    points = [point for one in told.values() if one["measurement"] == "tokenize" for point in one["numbers"]["points"]]
    tools = {point["tool"]: [one for one in points if one["tool"] == point["tool"]] for point in points}
    best = {tool: min(some, key=lambda one: one["left"]) for tool, some in tools.items()}
    rows = []
    for ours in ("rq_kmeans", "rq_vae"):
        for tool in tools:
            if ours not in tools or tool in ("rq_kmeans", "rq_vae"):
                continue
            equal = 1.001 * max(best[ours]["left"], best[tool]["left"])
            quickest = [min(p["seconds"] for p in tools[one] if p["left"] <= equal) for one in (tool, ours)]
            lefts = [f"{best[one]['left']:.4f} in {best[one]['seconds']:.1f} s" for one in (ours, tool)]
            ends = [f"{one:.1f}" for one in quickest]
            rows.append([ours, tool, *lefts, f"{equal:.4f}", *ends, times(quickest[0] / quickest[1])])
    heads = ["ours", "peer", "our least variance left", "peer's least", "equal error", "peer, s", "ours, s",
             "times as fast"]  # fmt: skip
    return grid("Tokenizers at equal reconstruction error", heads, rows)
