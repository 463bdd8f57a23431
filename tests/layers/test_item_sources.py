"""Item sources: what histories read is the row of the table, and padding is nothing."""

import numpy as np
import pytest
import torch

from seqlab.layers.item_sources import IdEmbedding, ProjectedVectors

ITEMS, DIM = 7, 4


def projected(ids):
    source = ProjectedVectors(ITEMS, DIM, vector_dim=6, ids=ids)
    source.assign(np.random.default_rng(0).normal(size=(ITEMS, 5)))
    return source


SOURCES = {
    "ids": lambda: IdEmbedding(ITEMS, DIM),
    "ids and a mask": lambda: IdEmbedding(ITEMS, DIM, extra=1),
    "vectors": lambda: projected(ids=False),
    "vectors and ids": lambda: projected(ids=True),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_looked_up_vector_is_the_row_of_the_table_and_both_learn(name):
    torch.manual_seed(0)
    source, items = SOURCES[name](), torch.tensor([[3, 7, 0], [1, 1, 0]])
    table = source.table()
    assert table.shape == (ITEMS + 1, DIM) and not bool(table[0].any()) and bool(table[1:].any(1).all())
    torch.testing.assert_close(source.lookup(items), table[items])
    for read in (source.lookup(items), table[items]):
        gradients = torch.autograd.grad(read.pow(2).sum(), list(source.parameters()), retain_graph=True)
        assert all(bool(gradient.any()) for gradient in gradients)


def test_a_token_behind_the_items_is_looked_up_but_is_no_row_of_the_table():
    source = SOURCES["ids and a mask"]()
    assert source.lookup(torch.tensor([ITEMS + 1])).shape == (1, DIM) and len(source.table()) == ITEMS + 1
