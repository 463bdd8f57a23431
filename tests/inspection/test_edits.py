"""The smallest edit against brute force, one history at a time."""

from itertools import combinations

import pytest
import torch

from seqlab import models
from seqlab.datasets.events import Events
from seqlab.datasets.history import History, batch_of
from seqlab.datasets.sequences import Batch
from seqlab.inspection import influence, smallest_edit
from seqlab.ranking import top
from seqlab.tasks import next_item
from tests.inspection.small_models import history_of_items
from tests.synthetic import coded

torch.set_num_threads(1)

N, K = 30, 3


def random_history(seed, length, items=N):
    return history_of_items(
        *torch.randint(1, items + 1, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    )


def scaled(name):
    """An untrained system with large item embeddings, so that every event changes the ranking."""
    torch.manual_seed(0)
    model = models.build(name, N, {"max_length": 10, "dim": 16})
    with torch.no_grad():
        model.items.weight.mul_(30)
    return model.eval()


MODELS = {name: scaled(name) for name in ("sasrec", "gru4rec", "bert4rec")}


def order_of(model, history, seen_filter=False):
    """All items for one history scored in a batch of one, best first."""
    longest = model.config.max_length
    items, times = history.items[None, -longest:], history.times[None, -longest:]
    with torch.no_grad():
        scores = model.score(Batch(Events(items, times), torch.tensor([items.shape[1]]), torch.tensor([1])))[0]
    seen = {*history.items.tolist(), *history.earlier.tolist()} if seen_filter else set()
    return [item for item in scores.argsort(descending=True).tolist() if 0 < item <= N and item not in seen]


def rank_in(order, item):
    return order.index(item) + 1 if item in order else float("inf")


def orders_of(model, history, seen_filter):
    """For every size of an edit, the items in order after each edit of that size."""
    return [
        [order_of(model, history.drop(*dropped), seen_filter) for dropped in combinations(range(len(history)), size)]
        for size in range(len(history))
    ]


def brute_force(orders, item, into):
    """The size of the smallest working edit and the best rank among all of that size; None if no edit works."""
    for size, of_size in enumerate(orders):
        ranks = [rank_in(order, item) for order in of_size]
        if any((rank <= K) == into for rank in ranks):
            return size, min(ranks) if into else max(ranks)
    return None


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seen_filter", [False, True])
def test_the_exact_search_equals_brute_force(name, seen_filter):
    model, sizes = MODELS[name], set()
    for seed in range(3):
        history = random_history(seed, 6)
        orders = orders_of(model, history, seen_filter)
        order = orders[0][0]
        queries = [(order[0], False), (order[4], True), (order[-1], True), (int(history.items[2]), True)]
        for item, into in queries:
            found = smallest_edit(model, history, item, into, K, seen_filter)
            best = brute_force(orders, item, into)
            assert found.exact and found.found == (best is not None)
            assert found.rank_before == rank_in(order, item)
            if best is None:
                assert not found.dropped and found.history.items.tolist() == history.items.tolist()
                assert found.scored == 2**6 - 1  # all but the empty history
                continue
            assert (len(found.dropped), found.rank_after) == best
            kept = [at for at in range(6) if at not in found.dropped]
            assert found.history.items.tolist() == history.items[kept].tolist()
            assert found.history.times.tolist() == history.times[kept].tolist()
            assert rank_in(order_of(model, found.history, seen_filter), item) == found.rank_after
            sizes.add(len(found.dropped))
    assert len(sizes) > 1


def slow_greedy(model, history, item, into):
    """The events that a greedy search drops, one history at a time; None if it does not succeed."""

    def evaluate(dropped):
        kept = [at for at in range(len(history)) if at not in dropped]
        shorter = History(1, history.items[kept], history.times[kept], history.earlier)
        scores = influence.scores_of(model, [shorter])[0]
        others = sorted((float(scores[other]) for other in range(1, N + 1) if other != item), reverse=True)
        rank = 1 + sum(score > scores[item] for score in others)
        sign = 1 if into else -1
        works, margin = (rank <= K) == into, sign * float(scores[item] - others[K - 1])
        return works, -sign * float(rank) if works else margin, margin

    dropped = []
    while not evaluate(dropped)[0]:
        rest = [at for at in range(len(history)) if at not in dropped]
        if len(rest) == 1:
            return None
        dropped.append(max(rest, key=lambda at: evaluate([*dropped, at])))
    while len(dropped) > 1:
        back = max(dropped, key=lambda at: evaluate([other for other in dropped if other != at]))
        if not evaluate([other for other in dropped if other != back])[0]:
            break
        dropped.remove(back)
    return tuple(sorted(dropped))


def test_the_greedy_search_equals_a_slow_one():
    model, sizes = MODELS["gru4rec"], []
    for seed in (0, 5, 38):
        history = random_history(seed, 9)
        order = order_of(model, history)
        for item, into in [(order[0], False), (order[1], False), (order[8], True), (order[15], True)]:
            found = smallest_edit(model, history, item, into, K, exact_up_to=0)
            expected = slow_greedy(model, history, item, into)
            assert found.found == (expected is not None)
            assert found.dropped == (expected or ())
            sizes.append(len(found.dropped))
    assert max(sizes) > 2


def test_greedy_search_does_not_claim_to_be_exact():
    model, history = MODELS["gru4rec"], random_history(0, 9)
    first = order_of(model, history)[0]
    greedy = smallest_edit(model, history, first, False, K, exact_up_to=0)
    exact = smallest_edit(model, history, first, False, K)
    assert len(greedy.dropped) > len(exact.dropped) and not greedy.exact and "smaller edit may exist" in greedy.message


@pytest.mark.parametrize("name", MODELS)
def test_a_greedy_edit_is_never_smaller_than_the_exact_one(name):
    model, larger = MODELS[name], 0
    for seed in range(4):
        history = random_history(seed, 8)
        order = order_of(model, history)
        for item, into in [(order[0], False), (order[1], False), (order[6], True), (order[12], True)]:
            greedy = smallest_edit(model, history, item, into, K, exact_up_to=0)
            exact = smallest_edit(model, history, item, into, K)
            assert exact.exact
            assert exact.found >= greedy.found
            if greedy.found:
                assert len(greedy.dropped) >= len(exact.dropped)
                assert (rank_in(order_of(model, greedy.history), item) <= K) == into
                assert list(greedy.dropped) == sorted(set(greedy.dropped))
                for back in greedy.dropped if len(greedy.dropped) > 1 else ():
                    kept = [at for at in range(8) if at == back or at not in greedy.dropped]
                    fewer = history_of_items(*history.items[kept].tolist())
                    assert (rank_in(order_of(model, fewer), item) <= K) != into, "a superfluous event was dropped"
                if greedy.exact:
                    assert len(greedy.dropped) == len(exact.dropped)
                larger = max(larger, len(greedy.dropped))
    assert larger > 1


def test_a_long_history_is_searched_greedily_and_a_short_one_is_not():
    model = MODELS["sasrec"]
    for length in (12, 13):
        history = random_history(5, length)
        last = order_of(model, history)[-1]
        found = smallest_edit(model, history, last, into=True, k=1)
        if length == 12:
            assert found.exact and (found.found or found.scored == 2**12 - 1)
        else:
            assert found.scored <= 1 + sum(range(2, 14)) + sum(range(3, 14))


def test_passes_count_the_forward_passes(monkeypatch):
    model, history = MODELS["sasrec"], random_history(1, 7)
    rows, score = [], model.score
    monkeypatch.setattr(model, "score", lambda batch: rows.append(len(batch)) or score(batch))
    monkeypatch.setattr("seqlab.inspection.influence.POSITIONS_PER_PASS", 70)  # ten histories
    found = smallest_edit(model, history, order_of(model, history)[-1], into=True, k=1)
    rows.pop(0)  # the pass of `order_of`
    assert found.passes == len(rows) > 5
    assert found.scored == sum(rows)
    assert max(rows) == 10
    again = smallest_edit(model, history, found.item, into=True, k=1)
    assert (again.dropped, again.rank_after) == (found.dropped, found.rank_after)


def test_nothing_is_dropped_if_the_item_is_already_in_place():
    model, history = MODELS["sasrec"], random_history(0, 6)
    order = order_of(model, history)
    for item, into in [(order[0], True), (order[-1], False)]:
        found = smallest_edit(model, history, item, into, K)
        assert found.found and found.exact and not found.dropped and found.scored == found.passes == 1
        assert "is already" in found.message
    seen = int(history.items[0])
    filtered = smallest_edit(model, history, seen, False, K, seen_filter=True)
    assert filtered.found and not filtered.dropped and filtered.rank_before == float("inf")


@pytest.mark.parametrize("exact_up_to", [0, 12])
def test_the_limit_is_kept_and_reported(exact_up_to):
    model, history = MODELS["sasrec"], random_history(0, 9)
    last = order_of(model, history)[-1]
    found = smallest_edit(model, history, last, into=True, k=1, limit=12, exact_up_to=exact_up_to)
    assert not found.found and not found.exact and found.scored <= 12
    assert "more than the limit of 12 histories" in found.message


def test_a_single_event_cannot_be_dropped():
    model = MODELS["sasrec"]
    history = history_of_items(4)
    for exact_up_to in (0, 12):
        found = smallest_edit(model, history, order_of(model, history)[0], False, K, exact_up_to=exact_up_to)
        assert not found.found and not found.dropped and found.scored == 1


def test_impossible_queries_are_refused():
    model = MODELS["sasrec"]
    with pytest.raises(ValueError, match="there is no item 31; the catalogue ends at 30"):
        smallest_edit(model, random_history(0, 4), N + 1, True)
    with pytest.raises(ValueError, match="items count from 1"):
        smallest_edit(model, random_history(0, 4), 0, True)
    with pytest.raises(ValueError, match="item 9 occurs before"):
        smallest_edit(model, history_of_items(1, 2, earlier=[9]), 9, True, seen_filter=True)


@pytest.mark.parametrize("seen_filter", [False, True])
def test_a_system_without_scores_is_searched_by_its_lists(seen_filter):
    model, history = coded("tiger"), random_history(2, 5, 40)

    def places_of(history):
        """The mean rank of every listed item; equal scores share their mean rank."""
        batch = Batch(Events(history.items[None], history.times[None]), torch.tensor([len(history)]), torch.tensor([1]))
        with torch.no_grad():
            wide = model.recommend(batch, 15)
        pairs = zip(wide.items[0].tolist(), wide.scores[0].tolist(), strict=True)
        free = {item: score for item, score in pairs if not seen_filter or item not in history.items}
        order = sorted(free.values(), reverse=True)
        return {item: order.index(score) + (order.count(score) + 1) / 2 for item, score in free.items()}

    def listed(history):
        return [item for item, place in places_of(history).items() if place <= K]

    kept = [[at for at in range(5) if at not in out] for size in (1, 2) for out in combinations(range(5), size)]
    lists = [listed(history_of_items(*history.items[some].tolist())) for some in kept]
    sooner = {item for some in [listed(history), *lists[:5]] for item in some}
    newcomer = next(item for some in lists[5:] for item in some if item not in sooner)
    found = smallest_edit(model, history, newcomer, True, K, seen_filter)
    assert found.exact and len(found.dropped) == 2
    assert places_of(found.history)[newcomer] == found.rank_after
    last = max(places_of(history), key=places_of(history).get)
    blind = smallest_edit(model, history, last, True, K, seen_filter, exact_up_to=0)
    assert not blind.found and "no ranks beyond it" in blind.message
    first = listed(history)[0]
    out = smallest_edit(model, history, first, False, K, seen_filter)
    if out.found:
        assert first not in listed(out.history) and out.rank_after > K


def test_an_item_that_ties_with_the_end_of_a_list_counts_at_its_mean_rank():
    """Items 1 to 6 tie at the places 2 to 7, whichever of them a list of 3 shows: their mean rank is 4.5."""

    class Tied(torch.nn.Module):
        config = type("Config", (), {"max_length": None})()

        def recommend(self, batch, k):
            return top(torch.tensor([[0.0, *[1.0] * 6, 2.0, 0.5]]).expand(len(batch), -1), k)

    found = {item: smallest_edit(Tied(), history_of_items(1, 2), item, True, 3) for item in range(1, 9)}
    assert [found[item].rank_before for item in (7, 1, 6, 8)] == [1.0, 4.5, 4.5, float("inf")]
    assert [item for item, edit in found.items() if edit.found] == [7]


def test_lists_are_filtered_too():
    model, history = coded("tiger"), random_history(0, 5, 40)
    with torch.no_grad():
        listed = model.recommend(batch_of([history]), K).items[0].tolist()
    seen = next(item for item in listed if item in history.items)
    assert smallest_edit(model, history, seen, True, K).dropped == ()
    filtered = smallest_edit(model, history, seen, True, K, seen_filter=True)
    assert filtered.rank_before == float("inf")
    assert not filtered.found or int((filtered.history.items == seen).sum()) == 0


def test_no_edit_moves_a_system_that_ignores_the_history():
    model = models.build("popularity", N)
    model.counts.copy_(torch.arange(N + 1))
    found = smallest_edit(model, random_history(0, 5), N, False, K)
    assert not found.found and found.exact and found.message == "no edit works: all were tried"
    assert not smallest_edit(model, random_history(0, 20), N, False, K).found


def test_large_catalogues_are_scored_in_several_passes(monkeypatch):
    monkeypatch.setattr(next_item, "MAX_SCORES", 4 * (N + 1))
    model, history = MODELS["sasrec"], random_history(3, 6)
    item = order_of(model, history)[0]
    found = smallest_edit(model, history, item, False, 1)
    assert found.passes == 1 + -(-6 // 4)
