"""Draws against the exact law, on a decoder whose every conditional distribution is written down."""

import pytest
import torch
from scipy import stats

from seqlab.decoding import Draws, beam, exact, sample, typical, uniforms
from seqlab.tokenizers.trie import Trie
from tests.decoding.test_decoding import Written, codes_of

torch.set_num_threads(1)

SIZES = (4, 3, 3)


def alike(users=1, spread=1.0, sizes=SIZES):
    """A decoder that says the same of every user."""
    decoder = Written(1, sizes, spread=spread)
    decoder.logits = [level.expand(users, *level.shape[1:]) for level in decoder.logits]
    return decoder


def law_by_hand(decoder, trie, temperature=1.0, mass=1.0):
    """The probability of every leaf, step by step over the legal codes of every prefix."""
    probabilities = []
    for leaf in range(trie.starts[trie.levels], trie.n_nodes):
        whole, path = 1.0, trie.path(torch.tensor([leaf]))[0].tolist()
        for level, code in enumerate(path):
            codes, _ = trie.edges(trie.find(torch.tensor([path[:level]]).view(1, -1)), level)
            known = codes[0][codes[0] >= 0].tolist()
            p = (decoder.log_p(0, tuple(path[:level]))[known]).softmax(0)
            if mass < 1:
                entropy = -(p * p.log()).sum()
                order = (-p.log() - entropy).abs().argsort(stable=True)
                kept = order[(p[order].cumsum(0) - p[order]) < mass]
                p = torch.zeros_like(p).scatter(0, kept, p[kept])
            p = p ** (1 / temperature)
            whole *= float(p[known.index(code)] / p.sum())
        probabilities.append(whole)
    law = torch.tensor(probabilities, dtype=torch.float64)
    assert float(law.sum()) == pytest.approx(1)
    return law / law.sum()


def p_value(draws, law):
    """Of a G-test of the draws of all users against a law of leaves; cells that expect fewer than 5 are one."""
    counts = torch.bincount((draws.node - draws.trie.starts[draws.trie.levels]).flatten(), minlength=len(law)).double()
    expected = law * counts.sum()
    rare = expected < 5
    assert not bool(counts[law == 0].any())
    cells = [torch.cat([column[~rare], column[rare].sum()[None]]) for column in (counts, expected)]
    seen, hoped = (column[cells[1] > 0].numpy() for column in cells)
    return stats.power_divergence(seen, hoped, lambda_="log-likelihood").pvalue


@pytest.mark.parametrize(("temperature", "mass"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.6), (1.0, 0.9)])
def test_draws_follow_the_law(temperature, mass):
    sizes, users, count = (6, 5, 4), 40, 250
    trie, model = Trie(codes_of(60, sizes), sizes), alike(1, 1, sizes)
    points = uniforms(3, torch.arange(users), count, 3)
    decoder = alike(users, 1, sizes)
    drawn = sample(decoder, trie, points, temperature) if mass == 1 else typical(decoder, trie, points, mass)
    law = law_by_hand(model, trie, temperature, mass)
    assert int((law > 0).sum()) > 2
    assert p_value(drawn, law) > 1e-3
    torch.testing.assert_close(drawn.law.exp(), law[drawn.node - trie.starts[3]], atol=1e-6, rtol=1e-5)
    scores = exact(model, trie)[0]
    torch.testing.assert_close(drawn.scores, scores[trie.items(drawn.node)])
    if (temperature, mass) == (1.0, 1.0):  # the law of the exact scores, and no other
        renormalised = exact(model, trie, renormalise=True)[0, trie.items(torch.arange(trie.starts[3], trie.n_nodes))]
        torch.testing.assert_close(law, renormalised.double().exp(), atol=1e-6, rtol=1e-5)
        assert p_value(drawn, law_by_hand(model, trie, 1.3)) < 1e-6


def test_typical_draws_of_all_mass_are_samples():
    trie, points = Trie(codes_of(30, SIZES), SIZES), uniforms(0, torch.arange(5), 20, 3)
    whole, plain = typical(Written(5, SIZES), trie, points, 1.0), sample(Written(5, SIZES), trie, points)
    assert torch.equal(whole.node, plain.node) and torch.equal(whole.law, plain.law)
    assert not torch.equal(typical(Written(5, SIZES), trie, points, 0.3).node, plain.node)


def test_typical_codes_are_not_the_most_probable_ones():
    decoder = Written(1, (5,))
    decoder.logits = [torch.tensor([[0.4, 0.3, 0.1, 0.1, 0.1]]).log()]
    trie, points = Trie(torch.tensor([[0], [0], [1], [2], [3], [4]]), (5,)), uniforms(0, torch.tensor([1]), 100, 1)
    # entropy 1.42 nats; the surprises are 0.92, 1.20 and 2.30: the second code is the typical one
    found = typical(decoder, trie, points, mass=0.25).beams()
    assert found.codes[found.node >= 0].tolist() == [[1]]
    both = typical(decoder, trie, points, mass=0.5).beams()
    assert sorted(both.codes[both.node >= 0].tolist()) == [[0], [1]]
    torch.testing.assert_close(both.scores[0, :2].exp(), torch.tensor([0.4, 0.3]))


def test_draws_depend_on_the_seed_and_the_user_alone():
    trie, user = Trie(codes_of(40, SIZES), SIZES), torch.tensor([7, 3, 900_001, 0])
    decoder = Written(4, SIZES)
    whole = sample(decoder, trie, uniforms(1, user, 30, 3))
    for row in range(4):
        alone = Written(4, SIZES)
        alone.logits = [level[row : row + 1] for level in alone.logits]
        fewer = sample(alone, trie, uniforms(1, user[row : row + 1], 10, 3))
        assert torch.equal(fewer.node[0], whole.node[row, :10])
    assert not torch.equal(uniforms(2, user, 30, 3), uniforms(1, user, 30, 3))
    numbers = uniforms(0, torch.arange(200), 50, 4)
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    between = torch.corrcoef(numbers.flatten(1).T.flatten().view(200, 200))  # of neighbouring draws, levels and users
    assert float(between.fill_diagonal_(0).abs().max()) < 0.4


def test_draws_that_agree_share_a_row_of_the_decoder():
    trie, decoder = Trie(codes_of(60, SIZES), SIZES), Written(3, SIZES)
    sample(decoder, trie, uniforms(0, torch.arange(3), 500, 3))
    assert decoder.steps == 2 and decoder.widths[0] <= 4 and decoder.widths[1] <= 12


def test_each_tuple_is_listed_once_with_the_models_score_and_shares_are_of_items():
    codes = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1], [0, 1]])
    trie, decoder = Trie(codes, (2, 2)), Written(2, (2, 2), spread=1.0)
    drawn = sample(decoder, trie, uniforms(0, torch.arange(2), 512, 2))
    listed = drawn.beams()
    wide = beam(Written(2, (2, 2), spread=1.0), trie, 4)
    torch.testing.assert_close(listed.scores[:, :3], wide.scores)
    assert bool((listed.node[:, 3:] == -1).all()) and bool((listed.scores[:, 3:] == -torch.inf).all())
    shares = drawn.shares()
    torch.testing.assert_close(shares.sum(1), torch.ones(2, dtype=torch.float64))
    assert torch.equal(shares[:, 2], shares[:, 3]) and not bool(shares[:, 0].any())
    assert float(shares[0, 1]) == int((drawn.node[0] == trie.find(codes[1])).sum()) / 512


def test_a_draw_at_the_end_of_a_distribution_is_legal():
    trie, decoder = Trie(codes_of(30, SIZES), SIZES), Written(300, SIZES)
    points = torch.full((300, 1, 3), 1 - 2.0**-53, dtype=torch.float64)
    drawn = sample(decoder, trie, points)
    assert isinstance(drawn, Draws) and bool((drawn.node >= trie.starts[3]).all()) and bool(drawn.law.isfinite().all())


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"mass": 0.0}, {"mass": 1.5}])
def test_a_temperature_or_a_mass_that_is_none_is_refused(wrong):
    search = sample if "temperature" in wrong else typical
    with pytest.raises(ValueError, match="must be"):
        search(Written(1, SIZES), Trie(codes_of(5, SIZES), SIZES), uniforms(0, torch.zeros(1).long(), 2, 3), **wrong)
