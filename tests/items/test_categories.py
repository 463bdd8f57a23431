"""The categories of items: missing values are none, several of an item are kept."""

import pandas as pd

from seqlab.datasets.log import make_log
from seqlab.items.categories import categories_of


def test_a_missing_category_is_none_and_no_word():
    events = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 3, 1], "timestamp": [1, 2, 3, 4]})
    log = make_log(events, items=pd.DataFrame({"item": [1, 2, 3], "title": list("abc")}), title="title", repeats=True)
    log.items["genres"] = ["Drama|War", None, "War"]
    codes, names = categories_of(log)
    assert names == ["War", "Drama"] and codes.tolist() == [[0, 0], [2, 1], [0, 0], [1, 0]]
    log.items["genres"] = [3.0, float("nan"), 3.0]
    assert categories_of(log)[1] == ["3.0"]
