import numpy as np
import pandas as pd
import pytest

from seqlab.datasets.item_table import item_table
from seqlab.runtime.text import DataError


def test_item_keys_match_as_written_and_near_misses_are_counted():
    items = pd.DataFrame(
        {"id": ["007", "7", "tea ", "rye", None, "NA"], "name": ["Bond", "Seven", "Tea", "", "x", "y"]}
    )
    table, notes = item_table(np.array(["007", "7", "rye", "tea"], object), items, "id", "name", "i.csv")
    assert table["title"].tolist() == ["Bond", "Seven", "rye", "tea"]
    assert "1 items have no row; their title is their id. 1 match but for" in " ".join(notes)
    assert "has no id in rows 4, 5 " in " ".join(notes)
    with pytest.raises(DataError, match=r"none of the ids.*2 match but for .* zeros of numbers"):
        item_table(np.array([7, 8]), pd.DataFrame({"id": ["07", "08"]}), "id", None, "i.csv")
    with pytest.raises(DataError, match=r"scientific notation.*\(4\.1E\+12\) in row 1 "):
        item_table(np.array([7, 8]), pd.DataFrame({"id": ["7", "4.1E+12"]}), "id", None, "i.csv")
