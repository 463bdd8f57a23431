"""The README's code blocks and shell lines run as they stand, and the commands that notebooks advise."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import typer

import seqlab
from seqlab import cli
from seqlab.cli.parsing import join_parameter_words, parse_pairs
from seqlab.datasets.split_names import RULES, usage
from seqlab.reports.parameters import check
from seqlab.reports.render import named
from tests.test_project import ROOMS

README = Path(__file__).parent.parent / "README.md"
ROOT = README.parent
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
SHELL = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", README.read_text("utf-8"), flags=re.S)]
OWN = next(block for block in SHELL if any(line.startswith("seqlab card ") for line in block))
"""The lines about one's own data, one after the other."""


def advised() -> list[str]:
    """Every command of seqlab in the README and in the prose of the notebooks."""
    lines = [line for block in SHELL for line in block if line.startswith("seqlab ")]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        prose = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
        lines += re.findall(r"`(seqlab [a-z]+ [^`]+)`", prose) + re.findall(r"(?m)^(seqlab [a-z]+ .+)$", prose)
    return [line for line in lines if not line.endswith(" FILE")]


@pytest.mark.parametrize("line", sorted(set(advised())))
def test_every_command_that_is_advised_is_one(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell understands it: the command, its options, and the parameters of the notebook it is about."""
    monkeypatch.chdir(ROOT)
    words = join_parameter_words(shlex.split(line, comments=True)[1:])
    command = typer.main.get_command(cli.app).commands[words[0]]
    given = command.make_context(words[0], words[1:]).params
    for path in given.get("notebooks") or ():
        assert path.suffix == ".json" or check(nbformat.read(named(path), 4), parse_pairs(given["parameters"] or []))


@pytest.mark.usefixtures("warm_reports")
def test_the_lines_about_ones_own_data_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that holds the log and the notebooks, one after the other.

    By the shell, but for reports, which this process renders; `tests/reports` has reports by the shell.
    """
    _own_log(tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    folder = str(Path(sys.executable).parent)
    env = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    monkeypatch.chdir(tmp_path)
    for line in OWN:
        if line.startswith("seqlab report "):
            monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert not ended.value.code, line
            continue
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    for name, system in {"90_report_system": "sasrec", "mine": "sasrec"}.items():
        results = json.loads((tmp_path / "reports" / name / "results.json").read_text(encoding="utf-8"))
        assert results["dataset"] == "log" and results["system"] == system
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "catalog.csv", "log.csv", "log.toml", "notebooks", "out.ipynb", "reports", "runs"
    ]  # fmt: skip


def test_the_targets_of_make_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?m)(?:^|`)make ([a-z]+)", README.read_text(encoding="utf-8"))
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.M)]


def _own_log(folder: Path) -> None:
    """The two files that the README's example of one's own data reads."""
    days = [f"2026-03-{day:02d}" for day in range(1, 6)]
    events = [(f"c{user}", f"s{(user + step) % 6}", day) for user in range(12) for step, day in enumerate(days)]
    pd.DataFrame(events, columns=["customer", "sku", "when"]).to_csv(folder / "log.csv", index=False)
    catalog = pd.DataFrame({"sku": [f"s{item}" for item in range(6)], "name": [f"Thing {item}" for item in range(6)]})
    catalog.to_csv(folder / "catalog.csv", index=False)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[-1][:40] for block in BLOCKS])
def test_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _own_log(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    exec(compile(block, str(README), "exec"), names)
    assert len(names) > 2


def test_the_tree_says_what_each_room_says_of_itself() -> None:
    """In the order of imports, each with the first sentence of its docstring."""
    tree = re.findall(r"^(seqlab/\S+) +(.+)$", README.read_text(encoding="utf-8"), flags=re.M)
    assert tree == [_first_sentence(room) for room in ROOMS if room != "__main__"]


def _first_sentence(room: str) -> tuple[str, str]:
    """How the README writes a package or module, and what it is."""
    path, name = ROOT / "seqlab" / room / "__init__.py", f"seqlab/{room}/"
    if not path.exists():
        path, name = path.parent.with_suffix(".py"), f"seqlab/{room}.py"
    document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return name, re.match(r"(.+?)\.(\s|$)", document)[1]


def test_the_readme_lists_every_split():
    listed = re.findall(r"^\| `([^`]+)` \|", README.read_text(encoding="utf-8"), flags=re.M)
    assert {usage(name) for name in RULES} <= set(listed)


def test_every_link_and_picture_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"(?m)^#+ (.+)$", text)
    }
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    here = [link for link in links if not link.startswith(("http", "#"))]
    assert len(here) > 40
    assert not [link for link in here if not (ROOT / link).exists()]
    assert not [link for link in links if link.startswith("#") and link[1:] not in anchors]


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"(?m)^version: (.+)$", citation)[1] == seqlab.__version__
