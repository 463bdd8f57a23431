"""What has no ONNX export, in a sentence; exported models are compared with torch in the tests of the shell."""

from __future__ import annotations

import pytest

from seqlab.runs.export import check
from tests.tiny_runs import run_of


@pytest.mark.parametrize(
    ("name", "message"),
    [("tiger", "tiger makes its lists by a search"), ("basket_pmi", r"basket_pmi reads further columns \(basket\)")],
)
def test_what_has_no_export(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(run_of(name)[0].model)
