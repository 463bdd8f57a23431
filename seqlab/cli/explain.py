"""The command that explains one recommendation of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqlab.cli.run_data import Histories, Part, SplitOfRun, Trained, histories_of, open_run, require_run

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog
    from seqlab.inspection.explanation import Explanation


def explain(
    run: Annotated[Path, typer.Argument(help="a run of a system that scores all items: its folder or name")],
    user: Annotated[str, typer.Option(help="whose history: an id of the source")],
    item: Annotated[str | None, typer.Option(help="an id or a title; by default the first recommendation")] = None,
    k: Annotated[int, typer.Option(min=1, help="items in the list")] = 10,
    part: Part = "all",
    histories: Histories = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    dataset: Trained = None,
    split: SplitOfRun = None,
) -> None:
    """Say why RUN recommends an item to a user: influence, attention and surprise of every event of the history.

    Influence is how much less likely the item becomes without the event, in nats; surprise is how unlikely the event
    itself was, given the events before it. Histories and lists are those of `recommend`.
    """
    require_run(run)  # before the slow imports
    import json

    from seqlab.datasets import typed_items
    from seqlab.datasets.history import history_at
    from seqlab.inspection.explanation import explain as explained

    opened, parts = open_run(run, dataset, split, None, {})
    chosen = None if item is None else typed_items(parts.log, [item])[0]
    queries = histories_of(opened, parts, part, histories).of_users([user], "--user").queries
    history = history_at(queries, 0, opened.model.config.max_length)
    found = explained(opened.model, history, chosen, k, opened.seen_filter)
    if as_json:
        about = {"run": str(run), "system": opened.system, "user": user, "seen_filter": opened.seen_filter}
        typer.echo(json.dumps(about | found.summary(parts.log), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(_as_text(found, parts.log, user))


def _as_text(found: Explanation, log: InteractionLog, user: str) -> str:
    """An explanation as sentences and two tables."""
    from seqlab.datasets.item_names import item_names

    titles = item_names(log)
    place = "not in" if found.rank is None else f"number {found.rank} of"
    lines = [
        f"{titles[found.item - 1]} (item {log.items['item_id'].iloc[found.item - 1]}) is {place} the top "
        f"{len(found.listed)} of user {user}, with a probability of {found.probability:.2%}."
    ]
    events = found.events(log)
    if found.influence is None:
        lines.append("The history has only one event: there is no influence to compare.")
    else:
        ranked = events.sort_values("influence", kind="stable")
        for row, words, holds in ((ranked.iloc[-1], "supports it most", ranked["influence"].iloc[-1] > 0),
                                  (ranked.iloc[0], "reduces it most", ranked["influence"].iloc[0] < 0)):  # fmt: skip
            if holds:
                lines.append(f"Event {row['event']}, {row['title']}, {words} ({row['influence']:+.2f} nats).")
        if (agreement := found.agreement()) is not None:
            label = found.attention_map.readout_label()
            lines.append(f"The influence of the events and the attention of {label} {agreement[1]}.")
        peak = events.iloc[found.most_surprising]
        lines.append(
            f"The most surprising was event {peak['event']}, {peak['title']}: {peak['surprise']:.1f} nats, "
            f"rank {peak['rank']:,.10g}."
        )
    forms = {"influence": "{:+.3f}", "attention": "{:.1%}", "surprise": "{:.1f}", "rank": "{:,.10g}"}
    shown = {name: form.format for name, form in forms.items() if name in events}
    recommended = found.recommended(log).to_string(index=False, formatters={"probability": "{:.2%}".format})
    return "\n".join([*lines, "", events.to_string(index=False, formatters=shown, na_rep=""), "", recommended])
