"""A system that reasons in steps, its data, and the measures of its steps."""

import pytest

from seqlab.datasets import leave_one_out
from seqlab.inspection import reasoning_steps
from tests.inspection.small_models import ReasoningModel
from tests.synthetic import random_log


@pytest.fixture(scope="module", params=[True, False], ids=["repeats", "no repeats"])
def split(request):
    return leave_one_out(random_log(1, repeats=request.param))


@pytest.fixture(scope="module")
def model(split):
    return ReasoningModel(split.n_items).eval()


@pytest.fixture(scope="module")
def found(model, split):
    return reasoning_steps.rank_steps(model, split)
