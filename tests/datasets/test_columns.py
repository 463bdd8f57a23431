import numpy as np
import pandas as pd

from seqlab.datasets.columns import to_text
from seqlab.datasets.item_table import item_table


def test_bytes_are_text_if_they_are_utf_8():
    assert to_text(pd.Series([b"caf\xc3\xa9", None])).tolist() == ["café", ""]


def test_a_word_for_a_missing_text_is_blank_if_several_items_have_it():
    items = pd.DataFrame({"id": ["a", "b", "c"], "title": ["NULL", "NULL", "NaN"], "brand": ["null", "x", "NA"]})
    table, _ = item_table(np.array(["a", "b", "c"], object), items, "id", "title", "i.csv")
    assert table["title"].tolist() == ["a", "b", "NaN"] and table["brand"].tolist() == ["null", "x", "NA"]
