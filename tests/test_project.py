"""The project's own files agree with one another."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}
ROOMS = [
    "cache", "files", "processes", "pools", "pins", "tracing", "datasets", "layers", "tokenizers",
    "recommender", "decoding", "models", "evaluation", "training", "run_folders", "leaderboard", "leaderboard_page",
    "sweep", "tuning", "figures", "widgets", "reports", "cli",
]  # fmt: skip


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
    import seqlab

    assert [name for name in seqlab.__all__ if getattr(seqlab, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'wach'"):
        seqlab.wach  # noqa: B018


def test_rooms_import_only_from_rooms_above() -> None:
    """The data go one way: no room imports from one below it (function-level imports for discovery are marked)."""
    wrong = []
    for path in sorted((ROOT / "seqlab").rglob("*.py")):
        room = path.relative_to(ROOT / "seqlab").parts[0].removesuffix(".py")
        if room not in ROOMS:
            continue
        for name in re.findall(r"^(?:from|import) seqlab\.(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name in ROOMS and ROOMS.index(name) > ROOMS.index(room):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong
