"""The README's code blocks run as they stand."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.test_project import ROOMS

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)


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


def test_the_tree_has_every_room_in_the_order_of_imports() -> None:
    tree = re.findall(r"^seqlab/(\w+)", README.read_text(encoding="utf-8"), flags=re.M)
    assert tree == [room for room in ROOMS if room != "__main__"]
