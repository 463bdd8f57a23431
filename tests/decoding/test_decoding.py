"""Searches against brute force, on a decoder whose every conditional distribution is written down."""

import itertools

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.decoding import Beams, beam, best_items, diverse, exact, parallel, sample, uniforms
from seqlab.tokenizers.trie import Trie

torch.set_num_threads(1)


class Written:
    """Logits for every prefix, drawn once: level l is (B, K_0, .., K_l). Counts the calls."""

    def __init__(self, users, sizes, seed=0, spread=2.0):
        generator = torch.Generator().manual_seed(seed)
        self.logits = [
            spread * torch.randn(users, *sizes[: level + 1], generator=generator) for level in range(len(sizes))
        ]
        self.steps, self.widths = 0, []

    def start(self):
        return self.logits[0][:, None], self.logits[0].new_zeros(len(self.logits[0]), 1, 0, dtype=torch.long)

    def step(self, state, parent, code):
        self.steps += 1
        self.widths.append(code.shape[1])
        prefix = torch.cat([state.gather(1, parent[..., None].expand(-1, -1, state.shape[2])), code[..., None]], 2)
        user = torch.arange(len(code))[:, None].expand_as(code)
        return self.logits[prefix.shape[2]][(user, *prefix.unbind(2))], prefix

    def log_p(self, user, prefix):
        """Log-probabilities of the code after a prefix."""
        return self.logits[len(prefix)][(user, *prefix)].log_softmax(-1)


def codes_of(items, sizes, seed=0):
    """Random tuples, some equal: (N + 1, C)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (items + 1,), generator=generator) for size in sizes], 1)


def by_hand(decoder, codes, user, renormalise):
    """The log-probability of every item of one user, tuple by tuple."""
    tuples = [tuple(row) for row in codes[1:].tolist()]
    scores = []
    for one in tuples:
        score = 0.0
        for level, code in enumerate(one):
            log_p = decoder.log_p(user, one[:level])
            legal = sorted({other[level] for other in tuples if other[:level] == one[:level]})
            score += float(log_p[code]) - (float(log_p[legal].logsumexp(0)) if renormalise else 0.0)
        scores.append(score)
    return torch.tensor(scores)


def beam_by_hand(decoder, codes, user, width):
    """Live prefixes and their scores after every level, the way a textbook has it."""
    tuples = {tuple(row) for row in codes[1:].tolist()}
    live, levels = {(): 0.0}, []
    for level in range(codes.shape[1]):
        grown = {
            prefix: live[prefix[:-1]] + float(decoder.log_p(user, prefix[:-1])[prefix[-1]])
            for prefix in {one[: level + 1] for one in tuples}
            if prefix[:-1] in live
        }
        live = dict(sorted(grown.items(), key=lambda pair: -pair[1])[:width])
        levels.append(live)
    return levels


cases = given(
    items=st.integers(1, 40), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    width=st.integers(1, 12), seed=st.integers(0, 1000),
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@cases
def test_beams_are_those_of_the_textbook_at_every_level(items, sizes, width, seed):
    codes, decoder = codes_of(items, sizes, seed), Written(3, sizes, seed)
    found = beam(decoder, Trie(codes, sizes), width)
    assert decoder.steps == len(sizes) - 1 and max(decoder.widths, default=0) <= width
    for user in range(3):
        for level, live in enumerate(beam_by_hand(decoder, codes, user, width)):
            step = found.steps[level]
            there = step.node[user] >= 0
            prefixes = found.trie.path(step.node[user][there])[:, : level + 1].tolist()
            assert [tuple(prefix) for prefix in prefixes] == list(live)
            torch.testing.assert_close(step.scores[user][there], torch.tensor(list(live.values())))


@settings(deadline=None, max_examples=40)
@given(items=st.integers(1, 40), seed=st.integers(0, 1000), renormalise=st.booleans())
def test_a_beam_as_wide_as_the_catalogue_is_exact_and_exact_is_right(items, seed, renormalise):
    sizes = (5, 4, 6)
    codes, decoder = codes_of(items, sizes, seed), Written(2, sizes, seed)
    trie = Trie(codes, sizes)
    scores = exact(decoder, trie, renormalise)
    assert bool((scores[:, 0] == -torch.inf).all())
    for user in range(2):
        torch.testing.assert_close(scores[user, 1:], by_hand(decoder, codes, user, renormalise))
    listed, found = beam(decoder, trie, items, renormalise).items(items)
    assert bool((listed.sort(1).values == torch.arange(1, items + 1)).all())
    torch.testing.assert_close(found, scores.gather(1, listed))
    torch.testing.assert_close(found, scores[:, 1:].sort(1, descending=True).values)


def test_exact_scores_do_not_depend_on_the_chunk(monkeypatch):
    from seqlab.decoding import scoring

    codes, decoder = codes_of(60, (5, 4, 6)), Written(2, (5, 4, 6))
    whole = exact(decoder, Trie(codes, (5, 4, 6)))
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 14)
    torch.testing.assert_close(exact(decoder, Trie(codes, (5, 4, 6))), whole)


def test_legal_probabilities_sum_to_one_only_where_they_are_renormalised():
    codes, decoder = codes_of(20, (5, 4, 6)), Written(2, (5, 4, 6))
    trie = Trie(codes, (5, 4, 6))
    mass = [beam(decoder, trie, 20, renormalise).scores.exp().sum(1) for renormalise in (True, False)]
    torch.testing.assert_close(mass[0], torch.ones(2))
    assert bool((mass[1] < 0.9).all())


def test_probability_is_conserved_between_steps():
    codes, decoder = codes_of(40, (5, 4, 6)), Written(3, (5, 4, 6))
    steps = beam(decoder, Trie(codes, (5, 4, 6)), 4).steps
    before = torch.ones(3)
    for step in steps:
        torch.testing.assert_close(step.live + step.pruned + step.illegal, before)
        before = step.live
    assert float(steps[2].illegal.min()) > 0.01 and float(steps[1].pruned.min()) > 0.01


def test_items_of_one_tuple_tie_in_the_order_of_their_numbers_and_lists_end_where_items_do():
    codes = torch.tensor([[0, 0], [1, 1], [0, 1], [1, 1], [0, 1], [1, 1]])
    decoder = Written(1, (2, 2))
    decoder.logits = [torch.tensor([[0.0, 1.0]]), torch.tensor([[[0.0, 1.0], [0.0, 2.0]]])]
    found = beam(decoder, Trie(codes, (2, 2)), 3)
    items, scores = found.items(7)
    assert items.tolist() == [[1, 3, 5, 2, 4, 0, 0]]
    assert len(scores[0].unique()) == 3 and scores[0, 5:].tolist() == [-torch.inf] * 2
    assert found.items(2)[0].tolist() == [[1, 3]]


@settings(deadline=None, max_examples=40)
@given(items=st.integers(1, 40), width=st.integers(1, 12), k=st.integers(1, 45), seed=st.integers(0, 1000))
def test_a_ranking_has_all_items_found_that_tie_with_its_last(items, width, k, seed):
    sizes = (3, 2)
    found = beam(Written(3, sizes, seed), Trie(codes_of(items, sizes, seed), sizes), width)
    listed, scores = found.items(items)  # all that was found
    ranking = found.ranking(k)
    k = min(k, items)
    assert torch.equal(ranking.items, listed[:, :k]) and torch.equal(ranking.scores, scores[:, :k])
    for row in range(3):
        tied = (scores[row, k:] == scores[row, k - 1]) & (scores[row, k:] > -torch.inf)
        assert ranking.tied[row][ranking.tied[row] > 0].tolist() == listed[row, k:][tied].tolist()
    best = best_items(lambda wide: beam(Written(3, sizes, seed), found.trie, wide), k, width)
    assert torch.equal(best.items, beam(Written(3, sizes, seed), found.trie, max(k, width)).items(k)[0])


@pytest.mark.parametrize("wrong", [0, -3, 1.5, True])
def test_a_list_of_beams_counts_from_1(wrong):
    found = beam(Written(1, (3, 2)), Trie(codes_of(5, (3, 2)), (3, 2)), 4)
    for ask in (found.items, found.ranking, lambda k: best_items(lambda width: found, k, 4)):
        with pytest.raises(ValueError, match=rf"^k must be a whole number of at least 1 \(got {wrong}\)$"):
            ask(wrong)


def test_users_may_have_different_numbers_of_prefixes():
    codes = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 1], [1, 2]])
    decoder = Written(2, (2, 3))
    decoder.logits[0] = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    found = beam(decoder, Trie(codes, (2, 3)), 1)
    assert found.codes[0].tolist() == [[0, 0]] and found.codes[1, 0, 0] == 1
    wide = diverse(decoder, Trie(codes, (2, 3)), 4, 4, strength=100.0)
    assert (wide.node >= 0).tolist() == [[True, True, True, False]] * 2  # two groups fight for the one tuple of code 0
    assert wide.items(9)[0][:, 3:].sum() == 0


class Stuck(Trie):
    """A trie that lost what follows its first prefix."""

    def edges(self, node, level):
        codes, nodes = super().edges(node, level)
        gone = node[..., None] == self.starts[1]
        return codes.masked_fill(gone, -1), nodes.masked_fill(gone, -1)


@pytest.mark.parametrize(
    "search",
    [lambda *given: beam(*given, 4), lambda *given: diverse(*given, 4, 2),
     lambda *given: exact(*given, renormalise=True),
     lambda *given: sample(*given, uniforms(0, torch.arange(2), 50, 2))],
)  # fmt: skip
def test_a_search_without_a_legal_code_raises(search):
    codes = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    codes = torch.cat([codes[:1], codes])
    with pytest.raises(ValueError, match="no code may follow the prefix of user row 0"):
        search(Written(2, (2, 3), spread=0.1), Stuck(codes, (2, 3)))


def test_logits_that_are_not_finite_or_too_few_are_refused():
    codes = codes_of(20, (5, 4))
    sick = Written(2, (5, 4))
    sick.logits[1][1] = torch.nan
    with pytest.raises(FloatingPointError, match="level 1 are not finite"):
        beam(sick, Trie(codes, (5, 4)), 3)
    with pytest.raises(ValueError, match="level 1 has 9 codes, but the model has logits for 4"):
        beam(Written(2, (5, 4)), Trie(codes, (5, 9)), 3)


def test_a_repeated_tuple_is_an_error():
    trie = Trie(codes_of(20, (5, 4)), (5, 4))
    leaf = trie.starts[2]
    with pytest.raises(AssertionError, match="must be unique"):
        Beams(trie, torch.tensor([[leaf, leaf + 1, leaf]]), torch.zeros(1, 3))


def test_one_group_of_a_diverse_beam_is_a_beam():
    codes, decoder = codes_of(60, (5, 4, 6)), Written(3, (5, 4, 6))
    trie = Trie(codes, (5, 4, 6))
    torch.testing.assert_close(diverse(decoder, trie, 6, 1, 5.0).scores, beam(decoder, trie, 6).scores)


def test_groups_of_a_diverse_beam_spread_over_first_codes_and_keep_the_models_scores():
    sizes = (6, 4, 6)
    codes, decoder = codes_of(400, sizes), Written(3, sizes)
    decoder.logits[0][:, 2] += 15  # one branch that a plain beam never leaves
    trie = Trie(codes, sizes)
    plain, spread = beam(decoder, trie, 6), diverse(decoder, trie, 6, 3, 50.0)
    assert decoder.steps == 4
    assert all(len(row.unique()) == 1 for row in plain.codes[:, :, 0])
    assert all(len(row.unique()) >= 3 for row in spread.codes[:, :, 0])
    scores = exact(decoder, trie)
    torch.testing.assert_close(spread.scores, scores.gather(1, trie.items(spread.node)))
    assert bool((spread.scores.diff(dim=1) <= 0).all())


def test_independent_slots_are_summed_exactly():
    sizes = (3, 5, 4)
    codes = codes_of(30, sizes)
    log_p = [torch.randn(2, size).log_softmax(-1) for size in sizes]
    scores = parallel(log_p, codes)
    for user, item in itertools.product(range(2), range(1, 31)):
        wanted = sum(float(log_p[slot][user, codes[item, slot]]) for slot in range(3))
        assert float(scores[user, item]) == pytest.approx(wanted, abs=1e-5)
    assert bool((scores[:, 0] == -torch.inf).all())
    padded = torch.stack([torch.nn.functional.pad(one, (0, 5 - one.shape[1])) for one in log_p], 1)
    torch.testing.assert_close(parallel(padded, codes), scores)
    with pytest.raises(ValueError, match="3 codes, but there are 2 slots"):
        parallel(log_p[:2], codes)


def test_the_table_of_steps_has_pruned_prefixes_and_final_ranks():
    sizes = (5, 4, 6)
    codes, decoder = codes_of(50, sizes), Written(2, sizes)
    found = beam(decoder, Trie(codes, sizes), 3, keep=2)
    popularity = torch.arange(51).flip(0)  # item 1 is the most popular
    table = found.frame(popularity)
    shown = table.groupby(["user", "level", "state"]).size().groupby("state").max()
    assert shown.to_dict() == {"live": 3, "pruned": 2}
    for (user, level), rows in table.groupby(["user", "level"]):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["log_probability"].is_monotonic_decreasing
        hand = beam_by_hand(decoder, codes, user, 3)
        options = set(map(tuple, codes[1:, : level + 1].tolist()))
        if level:
            options = {prefix for prefix in options if prefix[:-1] in hand[level - 1]}
        assert set(rows["prefix"]) <= options and len(rows) == min(5, len(options))
        for row in rows.itertuples():
            under = (codes[1:, : level + 1] == torch.tensor(row.prefix)).all(1).nonzero()[:, 0] + 1
            assert row.items == len(under) and row.item == int(under[0])
            assert row.prefix[-1] == row.code
            if level:
                above = table.query("user == @user and level == @level - 1 and rank == @row.parent")
                assert above["prefix"].item() == row.prefix[:-1] and above["state"].item() == "live"
    final = table.query("level == 2 and state == 'live'")
    assert (final["final_rank"] == final["rank"]).all()
    for row in table.query("state == 'live'").itertuples():
        ends = final[final["user"] == row.user].itertuples()
        reached = [end.rank for end in ends if end.prefix[: row.level + 1] == row.prefix]
        assert (min(reached) == row.final_rank) if reached else pd.isna(row.final_rank)
    assert table.query("state == 'pruned'")["final_rank"].isna().all()
    mass = found.mass().set_index(["user", "level"])
    assert mass.loc[(1, 1)].sum() == pytest.approx(mass.loc[(1, 0), "live"], abs=1e-5)
