"""The project's own files agree with one another."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import seqlab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}
ROOMS = [
    "cache", "files", "processes", "pools", "provenance", "machine", "checkpoints", "progress", "presets", "tracing",
    "datasets", "layers", "tokenizers", "recommender", "decoding", "models", "evaluation", "options", "run_identity",
    "training", "run_folders", "pins", "leaderboard", "leaderboard_page", "sweep", "tuning", "figures", "widgets",
    "notebook_parameters", "pages", "reports", "cli", "__main__",
]  # fmt: skip
DISCOVERY = {("recommender", "models")}
"""What a room may import from below it, inside a function: a run folder names the system that is to be built."""


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
    needed = ranges(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
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
    with pytest.raises(AttributeError, match="no attribute 'wach'"):
        seqlab.wach  # noqa: B018


def imported(source: str) -> set[str]:
    """The modules of seqlab that some code imports: anywhere in it, and by whichever form of the statement."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports in seqlab are absolute"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    names = {name.split(".")[1] for name in found if name.startswith("seqlab.")}
    return {seqlab._HOMES.get(name, name) for name in names}  # `from seqlab import fit` imports the room it lives in


@pytest.mark.parametrize(
    "source",
    ["from seqlab import cli, files", "import seqlab.cli", "import seqlab.cli as shell", "from seqlab.cli import app",
     "def f():\n    from seqlab import cli", "if TYPE_CHECKING:\n    from seqlab.cli import app",
     "try:\n    import numpy, seqlab.cli\nexcept ImportError: pass"],
)  # fmt: skip
def test_no_form_of_an_import_is_missed(source: str) -> None:
    assert "cli" in imported(source)


def test_a_name_of_the_package_counts_as_the_room_it_lives_in() -> None:
    assert imported("from seqlab import fit, record") == {"training", "reports"}


def test_rooms_import_only_from_rooms_above() -> None:
    """The data go one way: no room imports from one below it, not even inside a function or for a type."""
    wrong = []
    for path in sorted((ROOT / "seqlab").rglob("*.py")):
        room = path.relative_to(ROOT / "seqlab").parts[0].removesuffix(".py")
        if room == "__init__":  # the package's own names, imported when they are first used
            continue
        assert room in ROOMS, f"{room} has no place among the rooms"
        names = imported(path.read_text(encoding="utf-8")) & {*ROOMS}
        below = [name for name in names if ROOMS.index(name) > ROOMS.index(room) and (room, name) not in DISCOVERY]
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in below]
    assert not wrong
