"""The gallery: a page with a card per system, with the still that shows most of it, on a trained run.

    seqlab report gallery

It is made of the systems' cards, the trained runs that come with the project, and the stored results. The page opens
without a network.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models, widgets
from seqlab.contracts import Learns, supports
from seqlab.datasets import load
from seqlab.datasets import split as make_split
from seqlab.datasets.history import History, history_of
from seqlab.experiments.standings import standings, verdicts
from seqlab.figures.html import Html, environment, style
from seqlab.inspection.influence import lists_of
from seqlab.reports.pages import TEMPLATES
from seqlab.reports.render import curated
from seqlab.runs.run import load_run
from seqlab.runs.zoo import zoo_runs
from seqlab.runtime.files import atomic_write
from seqlab.training.arms import open_run
from seqlab.widgets.display import sentence
from seqlab.widgets.inputs.picking import answers_of, sample_users
from seqlab.widgets.views import READS_HISTORY, fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

NAME = "gallery"
"""The name of the page, which `seqlab report` takes like that of a notebook."""

TELLING = (
    "CandidateAttention", "RelatedItems", "IntensityOverTime", "ReasoningSteps", "BeamSteps", "AttentionView",
    "EventWeights", "Why",
)  # fmt: skip
"""The views from the most particular to the most general: a system is shown by the first one that fits it."""

BASELINES = "baselines"
"""The family that comes last."""

PICTURES = {"sasrec": "attention", "tiger": "beams", "rearec": "reasoning", "neural_tpp": "waits"}
"""The systems whose rows the README shows, and their pictures, notebooks/NAME.png."""

NOTEBOOK = "07_workbench"
"""The notebook that has every view."""

REPORT = "90_report_system"
"""The notebook that takes every system."""


EVENTS, USERS, LISTED = 12, 50, 10
"""The most recent events of the history that is shown, the users it is chosen from, and the items of a list."""

NOTHING = Html("")


@dataclass(frozen=True)
class Entry:
    """What the page says of a system. figure: the JSON of its still, or None; html: its still as HTML, or a reason.

    least_width: in pixels; in a narrower place the figure scrolls.
    """

    name: str
    family: str
    idea: str
    paper: str
    claim: str
    verdict: str
    run: str
    places: tuple[str, ...]
    file: str
    notebook: str
    question: str = ""
    figure: str = ""
    least_width: int = 0
    html: Html = NOTHING


def make(out: str | Path = "reports", echo: Callable[[str], None] = print) -> Path:
    """Write gallery.html in a folder of reports; returns its path. echo: is called with a line per system."""
    out, entries, places, splits = Path(out), [], standings(), {}
    with _stills():
        for name in sorted(models.names(), key=lambda name: (models.family(name) == BASELINES, models.family(name))):
            entries.append(_entry(name, places, splits))
            echo(f"gallery  {name}  {'without a still' if not entries[-1].question else 'done'}")
    linked = {path.stem for path in out.glob("*.html")}
    figures = any(one.figure for one in entries)
    page = environment(TEMPLATES).get_template("gallery.html.j2")
    families = {family: [*some] for family, some in itertools.groupby(entries, lambda one: one.family)}
    text = page.render(
        title="seqlab: the systems", families=families, linked=linked, plotly=_plotly() if figures else ""
    )
    return atomic_write(out / f"{NAME}.html", text)


def rows_markdown() -> str:
    """The README's rows of the gallery."""
    lines = ["| | system | its paper claims | found here |", "|---|---|---|---|"]
    for name, picture in PICTURES.items():
        place = f"seqlab/models/{models.family(name)}/{name}.py"
        lines.append(
            f'| <img src="notebooks/{picture}.png" width="280" alt="{name}"> | [`{name}`]({place}): {_idea(name)} | '
            f"{models.card(name).claim} | {verdicts().get(name, '')} |"
        )
    return "\n".join(lines) + "\n"


def _entry(name: str, places: pd.DataFrame, splits: dict[tuple[str, str], Split]) -> Entry:
    """The entry of a system. splits: those that were made before, by dataset and name; it is added to."""
    card, path = models.card(name), models.path(name)
    paper = ", ".join(map(str, filter(None, (card.paper, card.venue, card.year))))
    facts = {
        "name": name, "family": models.family(name), "idea": _idea(name), "paper": paper,
        "claim": card.claim, "verdict": verdicts().get(name, ""), "run": _trained(name),
        "places": tuple(_places(name, places)), "file": str(Path(*path.parts[path.parts.index("models") - 1 :])),
    }  # fmt: skip
    if _telling(models.build(name, 4, models.module(name).TINY)) is None:
        return Entry(**facts, notebook=REPORT, html=_quiet("No view of one user fits it."))
    run, split = _run(name, splits)
    if run is None:
        command = f"seqlab fit {name} --dataset {(*card.homes, 'FILE')[0]} --out runs/{name}"
        words = Html("No trained run comes with the project: <code>{}</code>").format(command)
        return Entry(**facts, notebook=NOTEBOOK, html=_quiet(words))
    view = _telling(run.model)
    facts |= {"notebook": _notebook(view.__name__), "question": view.question}
    try:
        still = view(run, split, history=_history(run, split) if READS_HISTORY & {*view.needs} else None).still()
    except ValueError as error:
        return Entry(**facts, html=_quiet(sentence(error)))
    if isinstance(still, Html):
        return Entry(**facts, html=style() + Html("<div class='sl'>{}</div>").format(still))
    least = (still.layout.meta or {}).get("least_width", 0)  # see `theme.least_width`
    return Entry(**facts, figure=_json(still.to_plotly_json()), least_width=int(least))


def _quiet(words: str) -> Html:
    return Html("<p class='quiet'>{}</p>").format(words)


def _idea(name: str) -> str:
    """The first sentence of a system's file, without the name before it."""
    title = next(iter((models.module(name).__doc__ or "").strip().splitlines()), "")
    idea = title.partition(": ")[2] or title
    return idea[:1].upper() + idea[1:]


def _run(name: str, splits: dict[tuple[str, str], Split]) -> tuple[Run, Split] | tuple[None, None]:
    """The trained run of a system that comes with the project, or a run of one that only counts; with its split."""
    folder, key = zoo_runs().get(name), _data(name)
    if key is None:
        return None, None
    if key not in splits:
        splits[key] = make_split(load(key[0]), key[1])
    run = open_run(name, splits[key]) if folder is None else load_run(folder, splits[key])
    return run, splits[key]


def _history(run: Run, split: Split) -> History:
    """The last events of a user whose next item is among the best of the run; of a random one if there is none."""
    answers = answers_of(split)
    histories = [history_of(split, user, longest=EVENTS) for user in sample_users(split, USERS)]
    found = lists_of(run.model, histories, LISTED, run.seen_filter).items.tolist()
    hits = (one for one, items in zip(histories, found, strict=True) if answers.get(one.user) in items)
    return next(hits, histories[0])


def _data(name: str) -> tuple[str, str] | None:
    """The dataset and the split on which a system is shown: of its trained run, or its home if it only counts there.

    None for a system without a trained run that needs one, or whose home is no dataset of a trained run.
    """
    runs, card = models.pretrained(), models.card(name)
    trained = list(zip(runs["dataset"], runs["split"], strict=True))
    if name in set(runs["system"]):
        return trained[runs["system"].tolist().index(name)]
    counts = not supports(models.system(name), Learns)
    return next((key for key in trained if counts and key == (*card.homes[:1], card.split)), None)


def _telling(model: nn.Module) -> type | None:
    """The first of `TELLING` that fits a system."""
    return next((view for name in TELLING if fits(view := getattr(widgets, name), model)), None)


def _notebook(view: str) -> str:
    """The first notebook whose code has a view, else the one that has all."""
    code = re.compile(rf"widgets\.{view}\b")
    found = (path.stem for path in curated() if code.search(path.read_text(encoding="utf-8")))
    return next(found, NOTEBOOK)


def _places(name: str, places: pd.DataFrame) -> Iterator[str]:
    """Where a system stands among others, in a line per dataset: on the split that most systems were measured on."""
    own = places[places["system"] == name].sort_values("systems", ascending=False, kind="stable")
    for row in own.drop_duplicates("dataset").sort_values("dataset").to_dict("records"):
        first = "" if row["place"] == 1 else f" (first: {row['best']})"
        yield f"{row['dataset']}: {row['metric']} {row['value']:.4f}, {row['place']} of {row['systems']}{first}"


def _trained(name: str) -> str:
    """The result of the trained run of a system that comes with the project, and how long it took; "" without one."""
    runs = models.pretrained()
    return "".join(
        f"{row.metric} {row.value:.4f} on {row.dataset}, trained in {row.minutes:.0f} minutes"
        for row in runs[runs["system"] == name].itertuples(index=False)
    )


def _json(figure: dict[str, Any]) -> str:
    """A figure as JSON that may stand within a script element."""
    from plotly.io.json import to_json_plotly

    return to_json_plotly(figure).replace("<", "\\u003c")


def _plotly() -> str:
    """plotly.js, compressed: the page unpacks it when its first figure comes into view."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


@contextlib.contextmanager
def _stills() -> Iterator[None]:
    """Widgets are stills, as in a report: they create no controls."""
    before = os.environ.get("SEQLAB_REPORT")
    os.environ["SEQLAB_REPORT"] = "1"
    try:
        yield
    finally:
        del os.environ["SEQLAB_REPORT"]
        if before is not None:
            os.environ["SEQLAB_REPORT"] = before
