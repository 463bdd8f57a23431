"""ReaRec: backbones that think, two ways to train the thoughts, and the controls that tell whether thinking helps."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import seqlab
from seqlab.models.encoders.sasrec import Config as PlainConfig
from seqlab.models.encoders.sasrec import SASRec
from seqlab.models.reasoning.rearec import Config, ReaRec, contrast, pairwise_kl
from tests.synthetic import batch_of, random_histories, set_targets

torch.set_num_threads(1)

ITEMS = 12
HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], [10, 9]]
BACKBONES = ("sasrec", "bert4rec", "gru4rec")

every_backbone = pytest.mark.parametrize("backbone", BACKBONES)
every_objective = pytest.mark.parametrize("objective", ["prl", "erl", "last"])


def rearec(**settings):
    """A small model whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    sizes = {"dim": 8, "layers": 2, "heads": 2, "max_length": 8, "dropout": 0.0, "share": 1.0, "cuts": 8, "steps": 2}
    model = ReaRec(Config(**(sizes | settings)), ITEMS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def training_batch(histories=HISTORIES):
    """Every event but the first is a target; who has one event has none."""
    batch = batch_of(histories)
    targets = F.pad(batch.items[:, 1:], (0, 1))
    return set_targets(batch, targets)


def asked_at_the_end():
    """One target per history, and none for the second: nothing is left to chance."""
    batch = batch_of([[3, 7, 7, 1], [5], [2, 9, 4], [10, 9]])
    targets = torch.zeros_like(batch.items)
    targets[torch.arange(4), batch.lengths - 1] = torch.tensor([4, 0, 8, 1])
    return set_targets(batch, targets)


def prefixes(batch):
    """Each history up to each place with a target: (user, history, target)."""
    return [
        (user, batch.items[user, : place + 1].tolist(), int(batch.targets[user, place]))
        for user, place in (batch.targets > 0).nonzero().tolist()
    ]


@every_objective
def test_without_steps_it_is_sasrec_forward_and_loss(objective):
    model = rearec(steps=0, objective=objective, share=0.5)
    plain = SASRec(PlainConfig(dim=8, layers=2, heads=2, max_length=8, dropout=0.0), ITEMS)
    plain.load_state_dict(model.state_dict())
    batch = training_batch()
    torch.testing.assert_close(model.score(batch), plain.score(batch))
    torch.testing.assert_close(model.encode(batch), plain.encode(batch))
    mine, wanted = (torch.autograd.grad(one.loss(batch).total, list(one.parameters())) for one in (model, plain))
    torch.testing.assert_close(model.loss(batch).total, plain.loss(batch).total)
    wanted = {name: grad for (name, _), grad in zip(plain.named_parameters(), wanted, strict=True)}
    for (name, _), grad in zip(model.named_parameters(), mine, strict=True):
        torch.testing.assert_close(grad, wanted[name])


def test_prl_has_higher_temperatures_at_earlier_steps():
    assert rearec(steps=3, tau=0.5, alpha=3.0).temperatures.tolist() == [13.5, 4.5, 1.5, 0.5]
    assert rearec(steps=2, tau=0.5, alpha=3.0, objective="erl").temperatures.tolist() == [0.5, 0.5, 0.5]


@every_backbone
def test_prl_at_all_positions_is_that_of_each_prefix_alone(backbone):
    """The sum over steps of the cross-entropies at the steps' temperatures, by the plain formula."""
    model = rearec(backbone=backbone, tau=0.7, alpha=2.0, contrast=0.0)
    batch = training_batch()
    losses = []
    for _, history, target in prefixes(batch):
        scores = model.step_scores(model.reasoning_states(batch_of([history])))[0, :, 1:]  # (S + 1, N)
        losses.append(torch.stack([
            F.cross_entropy(scores[step] / temperature, torch.tensor(target - 1))
            for step, temperature in enumerate([2.8, 1.4, 0.7])
        ]))  # fmt: skip
    wanted = torch.stack(losses).mean(0)  # (S + 1,)
    loss = model.loss(batch)
    torch.testing.assert_close(torch.stack([loss.parts[f"step {step}"] for step in range(3)]), wanted)
    torch.testing.assert_close(loss.total, wanted.sum())


@every_backbone
@pytest.mark.parametrize("objective", ["erl", "last"])
def test_erl_learns_the_mean_less_the_divergence_and_the_control_the_last_state_alone(backbone, objective):
    model = rearec(backbone=backbone, objective=objective, tau=0.7, diversity=0.3, compared=100)
    batch = training_batch()
    errors, divergences = [], []
    for _, history, target in prefixes(batch):
        states = model.reasoning_states(batch_of([history]))[0]  # (S + 1, D)
        answer = states.mean(0) if objective == "erl" else states[-1]
        table = model.items.weight[1:]
        errors.append(F.cross_entropy(table @ answer / 0.7, torch.tensor(target - 1)))
        p = (states @ table.T / 0.7).softmax(-1)
        divergences.append(sum((p[i] * (p[i] / p[j]).log()).sum() for i, j in itertools.combinations(range(3), 2)))
    wanted, apart = torch.stack(errors).mean(), torch.stack(divergences).mean()
    loss = model.loss(batch)
    if objective == "erl":
        torch.testing.assert_close(loss.parts["ensemble"], wanted.detach())
        torch.testing.assert_close(loss.parts["diversity"], apart.detach())
        wanted = wanted - 0.3 * apart
    torch.testing.assert_close(loss.total, wanted)


def test_both_sides_of_a_divergence_learn():
    log_p = torch.randn(2, 3, 5).log_softmax(-1).requires_grad_()
    pairwise_kl(log_p).backward()
    assert float(log_p.grad.abs().amax((0, 2)).min()) > 0


def test_negatives_of_the_contrast_are_of_other_users_only():
    torch.manual_seed(0)
    users = torch.tensor([0, 0, 1, 2, 2, 2])
    noisy, clean = torch.randn(6, 4), torch.randn(6, 4)
    each = []
    for m in range(6):
        rivals = [n for n in range(6) if n == m or users[n] != users[m]]
        weights = [math.exp(float(noisy[m] @ clean[n]) / 0.5) for n in rivals]
        each.append(-math.log(weights[rivals.index(m)] / sum(weights)))
    assert float(contrast(noisy, clean, users, 0.5)) == pytest.approx(sum(each) / 6, rel=1e-5)


@every_backbone
def test_reasoning_steps_have_a_dropout_of_their_own(backbone):
    batch = batch_of(HISTORIES)
    forgetful = rearec(backbone=backbone, thought_dropout=0.5).train()
    once, again = forgetful.reasoning_states(batch), forgetful.reasoning_states(batch)
    assert torch.equal(once[:, 0], again[:, 0]) and not torch.equal(once[:, 1], again[:, 1])
    assert torch.equal(forgetful.eval().reasoning_states(batch), rearec(backbone=backbone).reasoning_states(batch))
    shaky = rearec(backbone=backbone, dropout=0.5, layers=1).train()
    assert shaky.thought_dropout.probability == 0.5  # the default


@every_backbone
def test_noise_changes_the_contrast_only_and_grows_with_gamma(backbone):
    batch = training_batch(random_histories(0, users=60, items=ITEMS, longest=8))
    batch = replace(
        batch, events=batch.events[:, :8], target_events=batch.target_events[:, :8], lengths=batch.lengths.clamp(max=8)
    )

    def parts(gamma):
        return rearec(backbone=backbone, gamma=gamma, contrast=0.5, tau=0.1).loss(batch)

    still, some, much = parts(0.0), parts(0.01), parts(5.0)
    for step in range(3):
        torch.testing.assert_close(much.parts[f"step {step}"], still.parts[f"step {step}"])
    assert abs(float(some.parts["contrast"] - still.parts["contrast"])) < 0.1
    assert float(much.parts["contrast"]) > float(still.parts["contrast"]) + 0.3
    steps = sum(still.parts[f"step {step}"] for step in range(3))
    torch.testing.assert_close(still.total, steps + 0.5 * still.parts["contrast"])


@every_backbone
def test_without_noise_the_contrast_is_that_of_each_history_alone(backbone):
    model, batch = rearec(backbone=backbone, gamma=0.0, tau=2.0), asked_at_the_end()
    states = model.reasoning_states(batch)[[0, 2, 3]]  # the second has no target, and is no rival
    wanted = sum(contrast(states[:, step], states[:, step], torch.arange(3), 2.0) for step in (1, 2))
    torch.testing.assert_close(model.loss(batch).parts["contrast"], wanted.detach())


@every_backbone
@every_objective
def test_every_reasoning_position_learns_and_naive_feedback_has_none(backbone, objective):
    model = rearec(backbone=backbone, objective=objective, share=0.5)
    model.loss(training_batch()).total.backward()
    assert float(model.reason.grad.abs().amax(1).min()) > 0
    assert all(parameter.grad is not None for parameter in model.parameters())
    naive = rearec(backbone=backbone, objective=objective, reason_positions=False)
    assert naive.reason is None
    assert not torch.allclose(naive.score(batch_of(HISTORIES)), rearec(backbone=backbone).score(batch_of(HISTORIES)))
    naive.loss(training_batch()).total.backward()


@pytest.mark.parametrize(("share", "length"), [(0.5, 40), (0.5, 3), (0.3, 2), (1.0, 5)])
def test_a_share_of_the_positions_is_sampled_for_any_length(share, length):
    model, has_target = rearec(share=share, max_length=40), torch.ones(2000, length, dtype=torch.bool)
    at, chosen = model._reasoning_positions(has_target)
    assert float(chosen.sum() / chosen.numel() * at.shape[1] / length) == pytest.approx(share, rel=0.05)
    assert all(len(set(row)) == len(row) for row in at.tolist())
    assert torch.bincount(at[chosen], minlength=length).float().std() < 0.1 * 2000  # no place more than another
    assert length == 1 or not torch.equal(model._reasoning_positions(has_target)[0], at)


def test_only_positions_with_a_target_are_reasoned_about():
    model, few = rearec(share=1.0, max_length=40), torch.zeros(3, 40, dtype=torch.bool)
    few[0, 7] = few[1, 30:35] = True
    at, chosen = model._reasoning_positions(few)
    assert chosen.sum(1).tolist() == [1, 5, 0]
    assert bool(few.gather(1, at)[chosen].all())


def test_a_batch_of_one_short_history_has_something_to_learn():
    model, batch = rearec(share=0.01), training_batch([[3, 7]])
    assert all(bool(model.loss(batch).total.isfinite()) for _ in range(5))


def test_bert4rec_draws_so_many_cuts_and_no_more():
    model = rearec(backbone="bert4rec", cuts=1, objective="erl")
    with seqlab.watch(model, "hidden") as trace:
        model.loss(training_batch())
    assert {one.values.shape[1] for one in trace["hidden"].passes} == {len(HISTORIES)}


@every_backbone
@every_objective
def test_the_readout_is_the_mean_for_erl_and_the_last_state_for_the_others(backbone, objective):
    model, batch = rearec(backbone=backbone, objective=objective), batch_of(HISTORIES)
    scores = model.step_scores(model.reasoning_states(batch))
    assert scores.shape == (4, 3, ITEMS + 1)
    wanted = scores.mean(1) if objective == "erl" else scores[:, -1]
    torch.testing.assert_close(model.score(batch), wanted)


@every_backbone
def test_fewer_steps_are_the_first_of_more(backbone):
    model, batch = rearec(backbone=backbone, steps=3), batch_of(HISTORIES)
    whole = model.reasoning_states(batch)
    for steps in range(4):
        torch.testing.assert_close(model.reasoning_states(batch, steps), whole[:, : steps + 1])
    with pytest.raises(ValueError, match="built for 3 steps, it cannot take 4"):
        model.reasoning_states(batch, 4)


@every_backbone
def test_a_watched_model_scores_the_same_and_records_its_states(backbone):
    model, histories = rearec(backbone=backbone), [*HISTORIES, []]
    expected = model.score(batch_of(histories))
    with seqlab.watch(model) as trace:
        torch.testing.assert_close(model.score(batch_of(histories)), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trace["reasoning"].values, model.reasoning_states(batch_of(histories)).detach())
    assert trace["reasoning"].axes == ("user", "step", "dim")


@every_backbone
def test_a_patched_state_changes_later_ones_and_the_scores(backbone):
    model, batch = rearec(backbone=backbone, steps=3), batch_of(HISTORIES)
    before, scores = model.reasoning_states(batch), model.score(batch)
    with seqlab.patch(model, {"step_taps.1": lambda state: state.roll(1, 0)}):
        after, changed = model.reasoning_states(batch), model.score(batch)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1], before[:, 1].roll(1, 0))
    assert float((after - before)[:, 2:].abs().amax(-1).detach().min()) > 1e-3
    assert float((changed - scores).abs().amax(-1).detach().min()) > 1e-3


@every_backbone
@every_objective
def test_half_precision_learns_nearly_the_same(backbone, objective):
    model, batch = rearec(backbone=backbone, objective=objective, gamma=0.0), asked_at_the_end()
    whole = float(model.loss(batch).total.detach())
    with torch.autocast("cpu", torch.bfloat16):
        half = model.loss(batch).total
    half.backward()
    assert float(half.detach()) == pytest.approx(whole, rel=0.03)
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@every_backbone
@every_objective
def test_scores_and_losses_on_a_gpu_are_the_same(backbone, objective):
    model, batch = rearec(backbone=backbone, objective=objective, gamma=0.0), asked_at_the_end()
    score, loss = model.score(batch), model.loss(batch).total
    model, batch = model.cuda(), batch.to("cuda")
    torch.testing.assert_close(model.score(batch).cpu(), score, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.loss(batch).total.cpu(), loss, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.5}])
def test_a_share_outside_of_0_to_1_is_refused(settings):
    with pytest.raises(ValueError, match=r"share must be (above 0|at most 1)"):
        ReaRec(Config(**settings), ITEMS)
