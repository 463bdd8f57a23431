"""REG4Rec: paths through parallel codes in any order, found exactly by a wide beam, rewarded and pruned."""

import pytest
import torch

import seqlab
from seqlab import decoding, models
from seqlab.models.semantic_ids.reg4rec import Config, REG4Rec
from seqlab.tokenizers import CodeBook
from seqlab.tokenizers.lattice import Lattice
from tests.synthetic import batch_of, random_book, set_targets, with_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 6)
ORDERS = ["confidence", "random", "fixed"]

every_order = pytest.mark.parametrize("order", ORDERS)


def reg4rec(codes=None, prune=None, **settings):
    """A small model whose matrices are large enough for every token to matter, more than any bias does."""
    codes = codes or random_book(sizes=LEVELS)
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 1, "heads": 2, "max_length": 8, "dropout": 0.0, "temperature": 2.0}
    model = REG4Rec(Config(**(sizes | {"levels": codes.sizes} | settings)), codes.n_items)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.ids.assign(codes)
    model.decoding = decoding.Decoding(prune=prune)
    return model.eval()


def states(model, batch):
    return batch.last(model.encode(batch)).detach()


class Ordered:
    """The model with the slots in their order, as decoding's searches over a trie want it."""

    def __init__(self, model, batch):
        self.model, self.state = model, states(model, batch)

    def start(self):
        none = torch.zeros(len(self.state), 1, 0, dtype=torch.long)
        return self._read(none), none

    def step(self, codes, parent, code):
        codes = codes.gather(1, parent[..., None].expand(-1, -1, codes.shape[-1]))
        codes = torch.cat([codes, code[..., None]], -1)
        return self._read(codes), codes

    def _read(self, codes):
        users, width, level = codes.shape
        order = torch.arange(len(LEVELS)).expand(users * width, -1)
        whole = torch.nn.functional.pad(codes, (0, len(LEVELS) - level)).flatten(0, 1)
        state = self.state.repeat_interleave(width, 0)
        log_p = self.model.teacher_forcing(state, whole, order)[:, level, level]
        return log_p.unflatten(0, (users, width)).detach()


def test_the_lattice_knows_what_items_allow_in_every_order():
    codes = random_book(items=15, sizes=(3, 2, 3)).codes
    lattice, items = Lattice(codes, 3), codes[1:]
    seen = {}

    def follow(node, filled):
        fits = [row for row in items.tolist() if all(row[slot] == code for slot, code in filled.items())]
        assert seen.setdefault(frozenset(filled.items()), node) == node  # a set of codes is one node, however reached
        for slot in {0, 1, 2} - set(filled):
            found, nodes = lattice.edges(torch.tensor([[node]]), torch.tensor([[slot]]))
            real = found[0, 0] >= 0
            assert found[0, 0][real].tolist() == sorted({row[slot] for row in fits})
            assert bool((nodes[0, 0] >= 0).eq(real).all())
            for code, child in zip(found[0, 0][real].tolist(), nodes[0, 0][real].tolist(), strict=True):
                follow(child, filled | {slot: code})

    follow(0, {})
    assert len(set(seen.values())) == len(seen)
    found, nodes = lattice.edges(torch.tensor([[0, -1]]), torch.tensor([[1, 1]]))
    assert found[0, 1].eq(-1).all() and nodes[0, 1].eq(-1).all()


@every_order
def test_steps_from_the_cache_score_as_the_training_pass_does(order):
    model, codes = reg4rec(order=order), random_book(seed=1, sizes=LEVELS).codes[1:]
    state = states(model, batch_of(HISTORIES)).repeat_interleave(10, 0)
    walked, slots, total = model.rollout(state, codes)
    assert torch.equal(walked, codes)
    assert slots.sort(1).values.eq(torch.arange(3)).all()
    log_p = model.teacher_forcing(state, codes, slots)  # (M, S, C, K)
    rows, steps = torch.arange(len(codes))[:, None], torch.arange(3)
    torch.testing.assert_close(total, log_p[rows, steps, slots, codes.gather(1, slots)].sum(1))


def test_confidence_fills_in_the_most_probable_open_slot():
    model = reg4rec()
    state = states(model, batch_of(HISTORIES)).repeat_interleave(10, 0)
    codes, slots, _ = model.rollout(state, random_book(seed=1, sizes=LEVELS).codes[1:])
    sure = model.teacher_forcing(state, codes, slots).detach().amax(-1)  # (M, S, C)
    for row in range(len(codes)):
        opened = {0, 1, 2}
        for step, slot in enumerate(slots[row].tolist()):
            assert slot == max(opened, key=lambda one: float(sure[row, step, one]))
            opened.remove(slot)
    assert len(slots.unique(dim=0)) > 1  # users and paths differ in their order


def test_the_fixed_order_is_the_ordinary_beam_over_the_trie():
    model, batch = reg4rec(order="fixed"), batch_of(HISTORIES)
    torch.testing.assert_close(
        decoding.scores(model, batch), decoding.exact(Ordered(model, batch), model.ids.book.trie)
    )
    for width in (3, 7):
        found = model.paths(batch, width).beams
        oracle = decoding.beam(Ordered(model, batch), model.ids.book.trie, width)
        assert torch.equal(found.codes, oracle.codes)
        torch.testing.assert_close(found.scores, oracle.scores)


@every_order
@pytest.mark.parametrize("prune", [0.0, 0.5])
def test_a_beam_as_wide_as_the_catalogue_is_exact(order, prune):
    model, batch = reg4rec(order=order, prune=prune), batch_of(HISTORIES)
    scores, ranking = decoding.scores(model, batch), model.recommend(batch, ITEMS)
    assert torch.equal(ranking.items.sort(1).values, torch.arange(1, ITEMS + 1).expand(4, -1))
    torch.testing.assert_close(ranking.scores, scores.gather(1, ranking.items))
    torch.testing.assert_close(ranking.scores, scores[:, 1:].sort(1, descending=True).values)


@every_order
def test_whatever_the_order_the_probabilities_of_all_tuples_sum_to_one(order):
    sizes = (3, 2, 4)
    every = torch.cartesian_prod(*(torch.arange(size) for size in sizes))
    model = reg4rec(CodeBook(torch.cat([every[:1], every]), sizes), order=order)
    torch.testing.assert_close(decoding.scores(model, batch_of(HISTORIES)).exp().sum(1), torch.ones(4))


@pytest.mark.parametrize("order", ["confidence", "fixed"])
def test_the_loss_has_every_open_slot_or_in_a_fixed_order_the_next(order):
    model, batch = reg4rec(order=order), with_targets([[3, 7, 7, 1]], [9])
    truth, state = model.ids.codes[9], states(model, batch)
    torch.manual_seed(5)
    loss = model.loss(batch)
    torch.manual_seed(5)
    path = torch.rand(1, 3).argsort(1) if order == "confidence" else torch.arange(3)[None]
    log_p = model.teacher_forcing(state, truth[None], path)[0]  # (S, C, K)
    for step in range(3):
        opened = path[0, step:] if order == "confidence" else path[0, step : step + 1]
        wanted = -sum(log_p[step, slot, truth[slot]] for slot in opened) / len(opened)
        torch.testing.assert_close(loss.parts[f"step {step}"], wanted.detach())
    torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())
    if order == "fixed":
        torch.testing.assert_close(-loss.total.detach(), decoding.scores(model, batch)[0, 9])


def test_the_loss_of_all_positions_is_that_of_each_prefix_alone():
    model, history = reg4rec(order="fixed"), [3, 7, 7, 1, 5, 2]
    targets = torch.tensor([history[1:], [9, 0, 0, 0, 0]])  # nothing follows the second one's last item
    alone = [model.loss(with_targets([history[:end]], [history[end]])).total for end in range(1, 6)]
    alone.append(model.loss(with_targets([[4]], [9])).total)
    batch = set_targets(batch_of([history[:-1], [4, 9]]), targets)
    torch.testing.assert_close(model.loss(batch).total, torch.stack(alone).mean())


def test_pruning_drops_the_least_agreement_with_the_first_step():
    batch, slots = batch_of(HISTORIES), torch.arange(3)
    model = reg4rec(prune=0.5)
    nothing = torch.zeros(4, 3, dtype=torch.long)
    first = model.teacher_forcing(states(model, batch), nothing, slots.expand(4, -1))[:, 0].detach()
    found = model.paths(batch, 4)

    def agreement(user, codes, filled):
        return sum(float(first[user, slot, codes[slot]]) for slot in filled)

    compared = 0
    for user in range(4):
        for step, dropped in enumerate(found.pruned[:2]):
            worst = []
            for codes, order in zip(found.beams.codes[user], found.order[user], strict=True):
                worst.append(agreement(user, codes, order[: step + 1].tolist()))
            for codes in dropped[user].tolist():
                filled = [slot for slot in range(3) if codes[slot] >= 0]
                if codes[0] != -2:
                    assert len(filled) == step + 1
                    assert agreement(user, codes, filled) <= min(worst) + 1e-5
                    compared += 1
    assert compared > 12 and found.pruned[2].shape[1] == 0
    assert not torch.equal(found.beams.codes, reg4rec(prune=0.0).paths(batch, 4).beams.codes)
    for item in range(1, ITEMS + 1):
        codes = model.ids.codes[item]
        lost = found.pruned_at(codes.expand(4, -1))
        by_hand = [
            [any(all(a in (-1, b) for a, b in zip(path, codes.tolist(), strict=True)) for path in step[user].tolist())
             for step in found.pruned] for user in range(4)
        ]  # fmt: skip
        assert lost.tolist() == by_hand
        inside = (found.beams.codes == codes).all(-1).any(1)
        assert not bool((lost.any(1) & inside).any())
    assert all(one.shape[1] == 0 for one in reg4rec(prune=0.0).paths(batch, 4).pruned)


def test_the_reward_counts_the_next_items_of_the_history_discounted_and_nothing_beyond_it():
    model = reg4rec(gamma=0.5, horizon=3)
    ahead = torch.tensor([[4, 9, 2], [7, 0, 0]])  # the second history ends after one more item
    paths = torch.stack([model.ids.codes[[4, 9]], model.ids.codes[[7, 0]]])  # (P, G, C)
    paths[1, 1] = (model.ids.codes[7] + torch.tensor([1, 0, 0])) % 6
    rewards = model.reward(paths, ahead)
    for row in range(2):
        for path in range(2):
            wanted = 0.0
            for j, item in enumerate(ahead[row].tolist()):
                same = (paths[row, path] == model.ids.codes[item]).float()
                wanted += (item > 0) * 0.5**j * float(same.prod() + same.mean())
            assert float(rewards[row, path]) == pytest.approx(wanted)
    assert float(rewards[1, 0]) == 2 and float(rewards[1, 1]) == pytest.approx(2 / 3)


def test_the_preference_term_alone_makes_rewarded_paths_come_more_often():
    model = reg4rec(align=1.0, group=16, horizon=1)
    batch = set_targets(batch_of(HISTORIES[:3]), torch.zeros(3, 7, dtype=torch.long))
    batch.targets[torch.arange(3), batch.lengths - 1] = torch.tensor([12, 3, 30])
    rewards = []
    for _ in range(50):
        preference, reward = model._policy_gradient(batch, model.encode(batch)[batch.targets > 0], batch.targets > 0)
        model.zero_grad()
        preference.backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= 0.02 * (0 if weight.grad is None else weight.grad)
        rewards.append(float(reward))
    assert sum(rewards[-10:]) > 2 * sum(rewards[:10])
    torch.manual_seed(0)
    assert {"step 0", "step 1", "step 2", "reward"} == set(model.loss(batch).parts)


def test_sampled_paths_follow_the_probabilities_of_the_model():
    model = reg4rec(random_book(sizes=(2, 3)))
    state = states(model, batch_of([[3, 7]])).expand(4000, -1)
    torch.manual_seed(0)
    codes = model.rollout(state)[0]
    for one in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        expected = float(model.rollout(state[:1], one[None])[2].detach().exp())
        assert float((codes == one).all(1).float().mean()) == pytest.approx(expected, abs=0.03)


def test_codes_that_a_slot_does_not_have_get_no_probability():
    log_p = reg4rec().log_p(torch.randn(3, 16)).detach()  # (3, C, K)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, 3))
    for slot, size in enumerate(LEVELS):
        assert bool(log_p[:, slot, size:].eq(-torch.inf).all()) and bool(log_p[:, slot, :size].isfinite().all())


def test_a_share_of_candidates_beyond_all_of_them_is_refused():
    with pytest.raises(ValueError, match=r"prune must be below 1, or none \(got 1\.0\)"):
        models.build("reg4rec", ITEMS, {"prune": 1.0})


def test_a_watched_search_records_the_orders_and_the_attention_of_paths():
    model, batch = reg4rec(), batch_of(HISTORIES)
    found = model.paths(batch, 20)
    with seqlab.watch(model) as trace:
        model.recommend(batch, 7)
    assert torch.equal(trace["order"].values.long(), found.order)
    weights = trace["written path attention"].passes[-1].values  # of the last step
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert weights.shape[-1] == 3  # the state and two codes, nothing else
