"""The settings of a system that validate best on a dataset: a search by Optuna's TPE whose trials are run folders.

    seqlab tune sasrec --dataset amazon-beauty --trials 20 --space learning_rate=1e-4..1e-2:log --space dim=32,64,128

Only validation is looked at: the folders, which `seqlab leaderboard` and `seqlab sweep` share, hold test metrics too,
but nothing here reads them. The study is a file beside the folders, a line of JSON for every event: a search that was
killed goes on from it, with the trial it was at. No sampler is kept, every trial draws by its own number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.datasets import leave_one_out, load
from seqlab.experiments import leaderboard
from seqlab.optimization.options import Options
from seqlab.runtime.files import atomic_write, exclusive_lock
from seqlab.runtime.settings import field_types, split_values, validate

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class TuningResult:
    """What a search found.

    arm: the best settings, as `seqlab leaderboard` takes them; preset: the same as sections of `presets/<system>.toml`.
    trials: a row per trial (index its number) with its settings and, in the last column, what it reached of the
    validation metric, NaN where it failed.
    """

    arm: str
    preset: str
    trials: pd.DataFrame


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
    load_options: Mapping[str, str] | None = None,
) -> TuningResult:
    """Search `space` by so many trials in all, those of earlier calls with the same arguments among them.

    space: for a setting of the system or of training "1e-4..1e-2:log", "16..128" or "a,b,c" (of lists "64,64;128,128").
    given: settings of all trials. seed: of training and of the search. The first trial has the settings in force, those
    of the preset or the defaults, where the space holds them; the others are drawn, numbers to three digits.
    load_options: how a file is read, as `datasets.load` takes it.
    A trial that fails by its settings (a loss that is not finite, a width that the heads do not divide) counts, and
    is told.

    Raises `ValueError` for a setting or a space that is none, and where every trial fails, `ImportError` without
    Optuna, `BlockingIOError` where another process is at the same study, `OSError` where a folder cannot be written.
    """
    import pandas as pd

    space, given, runs = dict(space), dict(given or {}), Path(runs)
    distributions = _distributions(arm, space, given)
    from optuna.trial import TrialState  # now it is known to be there

    split = leave_one_out(load(dataset, **(load_options or {})))

    def planned(chosen: dict[str, Any]) -> leaderboard.Plan:
        return leaderboard.plan(arm, split, seed, runs, given | chosen, seen_filter)

    plan = planned({})
    metric = plan.options.metric
    about = json.dumps([plan.key, sorted(space.items()), split.log.fingerprint()], sort_keys=True)
    name = f"{plan.system}-{seed}-{hashlib.sha256(about.encode()).hexdigest()[:8]}.study"
    with _study(plan.folder.with_name(name)) as study:
        if not study.trials:
            study.enqueue_trial(_in_force(plan, distributions))
        whole = [trial for trial in study.trials if trial.params.keys() == space.keys()]  # else killed while drawn
        done = {trial.number: (_tidy(trial.params), trial.value) for trial in whole if trial.state.is_finished()}
        cut_off = [trial for trial in whole if not trial.state.is_finished()]
        echo(f"{trials} trials of {arm} on {split.log.name}, {len(done)} of them finished before.")
        while len(done) < trials:
            trial = cut_off.pop(0) if cut_off else _drawn(study, distributions, seed)
            chosen, value = _tidy(trial.params), None
            echo(f"trial {len(done) + 1}/{trials}, {leaderboard.format_settings(chosen)}:")
            try:
                run = planned(chosen).train_or_load(split)
            except OSError:  # no fault of the settings: the trial is made when the command is called again
                raise
            except Exception as error:
                echo(f"It failed: {' '.join(str(error).split())}")
            else:
                if run.interrupted:
                    raise KeyboardInterrupt
                value = run.metrics["valid"][metric]
            study.tell(trial.number, value, TrialState.FAIL if value is None else TrialState.COMPLETE)
            done[trial.number] = chosen, value
            if value is not None:
                echo(f"validation {metric} {value:.4f}")
    if all(value is None for _, value in done.values()):
        raise ValueError(f"Every trial of {arm} failed; try narrower ranges.")
    best, _ = max(done.values(), key=lambda trial: -math.inf if trial[1] is None else trial[1])
    table = pd.DataFrame([chosen | {metric: value} for chosen, value in done.values()], pd.Index(done, name="trial"))
    words = leaderboard.format_settings({key: value for key, value in (given | best).items() if f":{key}=" not in arm})
    return TuningResult(f"{arm}:{words}", _preset(planned(best), split.log.card or split.log.name), table)


def _distributions(arm: str, space: dict[str, str], given: dict[str, Any]) -> dict[str, BaseDistribution]:
    """What each setting is drawn from. Raises `ValueError` for one that is none, or is set already."""
    try:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except ImportError as error:
        raise ImportError("Tuning needs Optuna, which is not installed: pip install 'seqlab[tune]'.") from error
    if not space:
        raise ValueError(
            "There is nothing to search; give the space of a setting, such as learning_rate=1e-4..1e-2:log."
        )
    system, *words = arm.split(":")
    config, options = field_types(models.module(system).Config), field_types(Options)
    found: dict[str, BaseDistribution] = {}
    for key, text in space.items():
        if key in given or any(word.startswith(f"{key}=") for word in words):
            raise ValueError(f"{key!r} is in the space and set for all trials; say it once.")
        if key in ("seed", "metric"):
            raise ValueError(f"{key!r} is no setting to search: it would change what the trials are compared by.")
        if key not in config | options:
            models.configure(system, {key: text}, also=options)  # says what it may have meant
        kind = (config | options)[key]
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


def _in_force(plan: leaderboard.Plan, distributions: dict[str, BaseDistribution]) -> dict[str, Any]:
    """What a plan without a search has for the settings of the space; those that lie outside of it are left out."""
    from optuna.distributions import CategoricalDistribution

    kinds = field_types(models.module(plan.system).Config) | field_types(Options)
    values = json.loads(plan.key["settings"]) | json.loads(plan.key["options"])
    found = {}
    for key, space in distributions.items():
        value = validate(kinds[key], values[key], key)
        if isinstance(space, CategoricalDistribution):
            same = [choice for choice in space.choices if validate(kinds[key], choice, key) == value]
            if same:
                found[key] = same[0]
        elif value is not None and space.low <= value <= space.high:
            found[key] = value
    return found


@contextlib.contextmanager
def _study(path: Path) -> Iterator[optuna.Study]:
    """The study that lies in `path`, or a new one; this process alone is at it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with exclusive_lock(path, f"Another process is at the study {path}; wait for it.") as lock:
        if path.exists():
            written = path.read_bytes()
            whole = written[: written.rfind(b"\n") + 1]  # a last line that a killed process left half written goes
            if whole != written:
                atomic_write(path, whole)
        storage = JournalStorage(JournalFileBackend(str(path), lock))
        yield optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)


def _drawn(study: optuna.Study, distributions: dict[str, BaseDistribution], seed: int) -> optuna.Trial:
    """A new trial; what it draws hangs on its number and the trials before it alone, so it may follow a kill."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    number = sum(trial.state != TrialState.WAITING for trial in study.trials)
    study.sampler = TPESampler(seed=(seed * 1_000_003 + number) % 2**32)
    return study.ask(distributions)


def _tidy(drawn: dict[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in drawn.items()}


def _preset(plan: leaderboard.Plan, dataset: str) -> str:
    """What of a plan differs from the defaults, as a preset has it."""
    blocks = []
    for part, default in (("settings", models.configure(plan.system, {})), ("options", Options())):
        usual = json.loads(json.dumps(dataclasses.asdict(default)))
        differ = {key: value for key, value in json.loads(plan.key[part]).items() if value != usual[key]}
        lines = [f"{key} = {json.dumps('none' if value is None else value)}" for key, value in differ.items()]
        blocks += ["\n".join([f"[{dataset}.{part}]", *lines])] if lines else []
    return "\n\n".join(blocks)
