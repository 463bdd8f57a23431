"""The project's own files agree with one another."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Container
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import seqlab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}
ROOMS = [
    "runtime", "tracing", "datasets", "contracts", "ranking", "evaluation", "tasks", "items", "layers", "optimization",
    "tokenizers", "decoding", "presets", "models", "runs", "training", "inspection", "adapters", "studies",
    "experiments", "figures", "widgets", "reports", "cli", "__main__",
]  # fmt: skip
"""The packages and modules of seqlab: each imports only from those before it."""


def ranges(lines: list[str]) -> dict[str, str]:
    """name -> version range of requirements."""
    found = [re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line.strip()) for line in lines]
    return {CONDA_NAMES.get(match[1], match[1]): match[2] for match in found if match}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_environment_yml_has_the_ranges_of_pyproject() -> None:
    lines = re.findall(r"^ +- ([^:#\n]+)$", (ROOT / "environment.yml").read_text(encoding="utf-8"), re.MULTILINE)
    other = ("pip", "-e .", "conda-forge")
    stated = ranges([line for line in lines if line not in other and not line.startswith("python>=")])
    assert stated == ranges(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])


def test_constraints_pin_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras = PROJECT["optional-dependencies"]
    needed = ranges(PROJECT["dependencies"] + [line for name in extras if name != "text" for line in extras[name]])
    assert not {name.lower().replace("_", "-") for name in needed} - pinned
    assert "torch==2.13.0" in lines


def test_nothing_names_a_folder_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(work|farm|home|root|Users)/\w")
    readable = {".py", ".md", ".toml", ".ipynb", ".yml", ".j2", ".css", ".csv"}
    found = [p.name for p in tracked() if p.suffix in readable and pattern.search(p.read_text(encoding="utf-8"))]
    assert not [name for name in found if name != Path(__file__).name]


def test_import_is_light() -> None:
    code = (
        "import sys, seqlab; heavy = {'torch', 'pandas', 'numpy', 'plotly', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    assert [name for name in seqlab.__all__ if getattr(seqlab, name, None) is None] == []
    with pytest.raises(AttributeError, match="attribute wach"):
        seqlab.wach  # noqa: B018


def modules() -> dict[str, Path]:
    """The modules of the package by their dotted names; a package's own is its `__init__`."""
    names = {}
    for path in sorted((ROOT / "seqlab").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(source: str, known: Container[str]) -> set[str]:
    """The `known` modules of seqlab that some code imports: anywhere in it, by whichever form of the statement."""
    homes, found = {name: module for module, names in seqlab.HOMES.items() for name in names}, set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports in seqlab are absolute"
            for name in node.names:
                home = homes.get(name.name) if node.module == "seqlab" else None  # `from seqlab import fit`
                whole = f"seqlab.{home}" if home else f"{node.module}.{name.name}"
                found.add(whole if whole in known else node.module)
    return {name for name in found if name.startswith("seqlab.")}


def room(module: str) -> str:
    return module.split(".")[1]


def below(source: str, home: str, known: Container[str]) -> list[str]:
    """What some code of the room `home` imports from a room that comes after it."""
    return sorted(name for name in imported(source, known) if ROOMS.index(room(name)) > ROOMS.index(home))


@pytest.mark.parametrize(
    "source",
    ["from seqlab import cli, datasets", "import seqlab.cli", "import seqlab.cli as shell",
     "from seqlab.cli import app", "def f():\n    from seqlab import cli",
     "if TYPE_CHECKING:\n    from seqlab.cli import app",
     "try:\n    import numpy, seqlab.cli\nexcept ImportError: pass"],
)  # fmt: skip
def test_no_form_of_an_import_is_missed(source: str) -> None:
    assert below(source, "datasets", modules()) == ["seqlab.cli"]


def test_a_name_of_the_package_counts_as_the_module_it_lives_in() -> None:
    assert imported("from seqlab import fit, record", modules()) == {"seqlab.training.fit", "seqlab.reports.results"}


def test_rooms_import_only_from_rooms_before_them() -> None:
    """The data go one way: no room imports from a later one, not even inside a function or for a type."""
    known = modules()
    wrong = []
    for name, path in known.items():
        if name == "seqlab":  # the package's own names, imported when they are first used
            continue
        assert room(name) in ROOMS, f"{name} has no place among the rooms"
        wrong += [f"{name} imports {other}" for other in below(path.read_text(encoding="utf-8"), room(name), known)]
    assert not wrong


def test_no_modules_import_one_another_in_a_circle() -> None:
    known = modules()
    graph = {name: imported(path.read_text(encoding="utf-8"), known) - {name} for name, path in known.items()}
    assert {*TopologicalSorter(graph).static_order()} == {*graph}  # CycleError names the circle
