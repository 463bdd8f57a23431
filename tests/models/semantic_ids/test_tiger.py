"""TIGER: training with legal codes alone, and LETTER; the rest is in test_semantic_id_systems."""

import pytest
import torch

from seqlab import decoding, models
from seqlab.datasets import leave_one_out
from seqlab.training.fit import prepare
from tests.synthetic import batch_of, chain_histories, enlarged, log_of, random_book, small

torch.set_num_threads(1)


def test_legal_only_spreads_all_probability_over_the_catalogue():
    for legal_only in (True, False):
        settings = small("tiger", levels=(5, 4, 6), legal_only=legal_only)
        model = enlarged(models.build("tiger", 40, settings))
        model.ids.assign(random_book())
        mass = decoding.generate(model, batch_of([[3, 7, 7, 1], [5]]), 40).scores.exp().sum(1)
        assert mass.tolist() == pytest.approx([1, 1]) if legal_only else bool((mass < 0.99).all())


def test_letter_needs_a_tokenizer_that_is_trained():
    split = leave_one_out(log_of(chain_histories(3, users=60), repeats=True))
    with pytest.raises(ValueError, match="rq_kmeans has no such training"):
        prepare(models.build("tiger", split.n_items, {"letter": True}), split)
