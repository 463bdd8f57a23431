"""Search for the settings of a system with the best validation metric, by Optuna's TPE; trials are run folders.

    seqlab tune sasrec --dataset amazon-beauty --trials 20 --space learning_rate=1e-4..1e-2:log --space dim=32,64,128

The search uses validation metrics only. The run folders, which `seqlab leaderboard` and `seqlab sweep` share, hold test
metrics too, which are not read here. The study is a file beside the folders with a line of JSON for every event. A
search that was killed continues from it with the unfinished trial. The state of the sampler is not stored: every trial
has a sampler with a seed of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models, tasks
from seqlab.datasets import load
from seqlab.datasets.split_names import DEFAULT, split
from seqlab.decoding.settings import SETTINGS, identify, methods
from seqlab.experiments import leaderboard
from seqlab.experiments.arm_names import format_settings
from seqlab.optimization.options import Options
from seqlab.runs.identity import options_defaults, settings_defaults
from seqlab.runtime.files import atomic_write, exclusive_lock
from seqlab.runtime.settings import field_types, split_values, validate

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from optuna.distributions import BaseDistribution

    from seqlab.evaluation.outcome import Metric


@dataclass(frozen=True)
class TuningResult:
    """The result of a search.

    arm: the best settings, as `seqlab leaderboard` takes them; preset: the same as sections of `presets/<system>.toml`.
    trials: a row per trial (index: its number) with its settings and, in the last column, its validation metric, NaN
    where it failed.
    """

    arm: str
    preset: str
    trials: pd.DataFrame
    metric: Metric


def tune(
    arm: str,
    dataset: str,
    space: Mapping[str, str],
    trials: int = 20,
    given: Mapping[str, Any] | None = None,
    seed: int = 0,
    runs: str | Path = "data/runs",
    seen_filter: bool | None = None,
    echo: Callable[[str], None] = print,
    load_options: Mapping[str, Any] | None = None,
    split_name: str = DEFAULT,
) -> TuningResult:
    """Search `space` by `trials` trials in all, including those of earlier calls with the same arguments.

    space: for a setting of the system or of training "1e-4..1e-2:log", "16..128" or "a,b,c" (of lists "64,64;128,128").
    given: settings of all trials. seed: of training and of the search. load_options: as `datasets.load` takes them.
    split_name: as `datasets.split` takes it.
    The first trial has the settings of the preset or the defaults, where the space contains them; the others are
    sampled, numbers rounded to three digits. A trial that fails by its settings (a loss that is not finite, a width
    that the heads do not divide) counts as a trial.

    Raises `ValueError` for an unknown setting, an invalid space, and where every trial fails; `ImportError` without
    Optuna; `BlockingIOError` where another process has the study open; `OSError` where a folder cannot be written.
    """
    import pandas as pd

    space, given, runs = dict(space), dict(given or {}), Path(runs)
    distributions = _distributions(arm, space, given)
    from optuna.trial import TrialState  # after `_distributions`, which raises if Optuna is missing

    data = split(load(dataset, **(load_options or {})), split_name)

    def planned(chosen: dict[str, Any]) -> leaderboard.Plan:
        return leaderboard.plan(arm, data, seed, runs, given | chosen, seen_filter)

    plan = planned({})
    by = tasks.metric_of(models.create(plan.system, data, plan.settings, seed), data, plan.options.metric)
    about = json.dumps([plan.key, sorted(space.items()), data.log.fingerprint()], sort_keys=True)
    name = f"{plan.system}-{seed}-{hashlib.sha256(about.encode()).hexdigest()[:8]}.study"
    with _study(plan.folder.with_name(name), "maximize" if by.higher else "minimize") as study:
        if not study.trials:
            study.enqueue_trial(_current_values(plan, distributions))
        complete = [trial for trial in study.trials if trial.params.keys() == space.keys()]  # else killed in `ask`
        done = {trial.number: (_rounded(trial.params), trial.value) for trial in complete if trial.state.is_finished()}
        unfinished = [trial for trial in complete if not trial.state.is_finished()]
        echo(f"{trials} trials of {arm} on {data.log.name}, {len(done)} of them finished before.")
        while len(done) < trials:
            trial = unfinished.pop(0) if unfinished else _new_trial(study, distributions, seed)
            chosen, value = _rounded(trial.params), None
            echo(f"trial {len(done) + 1}/{trials}, {format_settings(chosen)}:")
            try:
                run = planned(chosen).train_or_load(data)
            except OSError:  # not caused by the settings: the next call repeats the trial
                raise
            except Exception as error:
                echo(f"It failed: {' '.join(str(error).split())}")
            else:
                if run.interrupted:
                    raise KeyboardInterrupt
                value = run.metrics["valid"][by.name]
            study.tell(trial.number, value, TrialState.FAIL if value is None else TrialState.COMPLETE)
            done[trial.number] = chosen, value
            if value is not None:
                echo(f"validation {by.name} {value:.4f}")
    if all(value is None for _, value in done.values()):
        raise ValueError(f"Every trial of {arm} failed; try narrower ranges.")
    sign = 1 if by.higher else -1
    best, _ = max(done.values(), key=lambda trial: -math.inf if trial[1] is None else sign * trial[1])
    table = pd.DataFrame([chosen | {by.name: value} for chosen, value in done.values()], pd.Index(done, name="trial"))
    words = format_settings({key: value for key, value in (given | best).items() if f":{key}=" not in arm})
    return TuningResult(f"{arm}:{words}", _preset(planned(best), data.log.card or data.log.name), table, by)


def _distributions(arm: str, space: dict[str, str], given: dict[str, Any]) -> dict[str, BaseDistribution]:
    """The distribution of each setting. Raises `ValueError` for an unknown one and one that is set for all trials."""
    try:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except ImportError as error:
        raise ImportError("Tuning needs Optuna, which is not installed: pip install 'seqlab[tune]'.") from error
    if not space:
        raise ValueError(
            "There is nothing to search; give the space of a setting, such as learning_rate=1e-4..1e-2:log."
        )
    system, *words = arm.split(":")
    kinds = _kinds(system)
    found: dict[str, BaseDistribution] = {}
    for key, text in space.items():
        if key in given or any(word.startswith(f"{key}=") for word in words):
            raise ValueError(f"{key!r} is in the space and set for all trials; choose one.")
        if key in ("seed", "metric"):
            raise ValueError(f"{key!r} is no setting to search: it would change what the trials are compared by.")
        if key not in kinds:
            models.configure(system, {key: text}, also=field_types(Options))  # raises with the nearest name
        kind = kinds[key]
        if match := re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", text):
            low, high = (validate(kind, end, key) for end in match.group(1, 2))
            makes = {int: IntDistribution, float: FloatDistribution}.get(type(low))
            if makes is None or type(high) is not type(low) or not low < high < math.inf or (match[3] and low <= 0):
                raise ValueError(f"{key}={text} is no range of numbers; it looks like 16..128, or 1e-4..1e-2:log.")
            found[key] = makes(low, high, log=bool(match[3]))
        else:
            choices = split_values(kind, text, key)
            for choice in choices:
                validate(kind, choice, key)
            found[key] = CategoricalDistribution(choices)
    return found


def _current_values(plan: leaderboard.Plan, distributions: dict[str, BaseDistribution]) -> dict[str, Any]:
    """The values of a plan without a search for the settings of the space, without those outside the space."""
    from optuna.distributions import CategoricalDistribution

    kinds = _kinds(plan.system)
    values = json.loads(plan.key["settings"]) | json.loads(plan.key["options"]) | json.loads(plan.key["decoding"])
    found = {}
    for key, space in distributions.items():
        value = validate(kinds[key], values.get(key), key)
        if isinstance(space, CategoricalDistribution):
            same = [choice for choice in space.choices if validate(kinds[key], choice, key) == value]
            if same:
                found[key] = same[0]
        elif value is not None and space.low <= value <= space.high:
            found[key] = value
    return found


def _kinds(system: str) -> dict[str, Any]:
    """The types of the settings of a system, of training, and of its decoding if it has one."""
    lists = SETTINGS if methods(models.system(system)) else {}
    return lists | field_types(models.module(system).Config) | field_types(Options)


@contextlib.contextmanager
def _study(path: Path, direction: str) -> Iterator[optuna.Study]:
    """The study in the file `path`, or a new one ("maximize" or "minimize"), under an exclusive lock."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with exclusive_lock(path, f"Another process has the study {path} open; wait for it.") as lock:
        if path.exists():
            written = path.read_bytes()
            lines = written[: written.rfind(b"\n") + 1]  # without a last line that a killed process did not finish
            if lines != written:
                atomic_write(path, lines)
        storage = JournalStorage(JournalFileBackend(str(path), lock))
        yield optuna.create_study(storage=storage, study_name="tune", direction=direction, load_if_exists=True)


def _new_trial(study: optuna.Study, distributions: dict[str, BaseDistribution], seed: int) -> optuna.Trial:
    """A new trial. Its values depend only on its number and the trials before it, also after a kill."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    number = sum(trial.state != TrialState.WAITING for trial in study.trials)
    study.sampler = TPESampler(seed=(seed * 1_000_003 + number) % 2**32)
    return study.ask(distributions)


def _rounded(params: dict[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in params.items()}


def _preset(plan: leaderboard.Plan, dataset: str) -> str:
    """The settings and options of a plan that differ from the defaults, as sections of a preset."""
    blocks = []
    lists = identify(models.system(plan.system), None)
    for part, defaults in (
        ("settings", settings_defaults(plan.system)), ("options", options_defaults()), ("decoding", lists)
    ):  # fmt: skip
        differ = {key: value for key, value in json.loads(plan.key[part]).items() if value != defaults.get(key)}
        lines = [f"{key} = {json.dumps('none' if value is None else value)}" for key, value in differ.items()]
        blocks += ["\n".join([f"[{dataset}.{part}]", *lines])] if lines else []
    return "\n\n".join(blocks)
