"""RQ-VAE with LETTER's terms, FSQ and parallel VQ: the losses that others got wrong, and what they cause."""

import numpy as np
import pytest
import torch

from seqlab.tokenizers import codebook_report, make_codebook
from seqlab.tokenizers.fsq import FSQ
from seqlab.tokenizers.parallel_vq import ParallelVQ
from seqlab.tokenizers.rq_vae import RQVAE, diversity_loss, sinkhorn
from tests.tokenizers.test_every_tokenizer import clustered

torch.set_num_threads(1)

SMALL = {"levels": 3, "codes": 16, "hidden": (32,), "latent": 8, "batch": 100, "lr": 3e-3}
X = clustered(600, 24)


@pytest.fixture(scope="module")
def fitted():
    return RQVAE(**SMALL, epochs=20).fit(X)


def test_errors_are_summed_over_features(fitted):
    x = torch.from_numpy((X - fitted.mean_) / fitted.scale_)
    parts, codes = fitted.network_.parts(x)
    decoded = torch.from_numpy((fitted.decode(codes.numpy()) - fitted.mean_) / fitted.scale_)
    total = ((decoded - x) ** 2).sum() / len(x)
    torch.testing.assert_close(parts["reconstruction"], total, rtol=1e-3, atol=1e-3)
    mean = RQVAE(**SMALL, epochs=0, reconstruction="mean").fit(X)
    summed = RQVAE(**SMALL, epochs=0).fit(X)
    ratio = (
        summed.network_.parts(x)[0]["reconstruction"].detach() / mean.network_.parts(x)[0]["reconstruction"].detach()
    )
    assert float(ratio) == pytest.approx(24, rel=1e-3)


def test_every_level_pays_for_what_the_levels_before_left(fitted):
    x = torch.from_numpy((X - fitted.mean_) / fitted.scale_)
    parts, codes = fitted.network_.parts(x)
    left, total = fitted.network_.encoder(x).detach(), 0.0
    for layer, column in zip(fitted.network_.quantiser.layers, codes.T, strict=True):
        assert torch.equal(torch.cdist(left, layer.codebook).argmin(1), column)
        left = left - layer.codebook[column].detach()
        total += float((left**2).sum(1).mean())
    assert float(parts["commitment"].detach()) == pytest.approx(0.25 * total, rel=1e-4)


def test_the_encoder_gets_the_reconstruction_gradient_once_and_codes_do_not(fitted):
    x = torch.from_numpy((X - fitted.mean_) / fitted.scale_)
    network = fitted.network_
    network.zero_grad()
    fitted.network_.parts(x)[0]["reconstruction"].backward()
    got = network.encoder[-1].bias.grad.clone()
    assert not any(layer.codebook.requires_grad for layer in network.quantiser.layers)
    network.zero_grad()
    with torch.no_grad():
        codeword = network.quantise(network.encoder(x))[0].sum(0)
    entering = codeword.requires_grad_()
    ((network.decoder(entering) - x) ** 2).sum(1).mean().backward()
    torch.testing.assert_close(got, entering.grad.sum(0), rtol=1e-3, atol=1e-4)


def test_codes_start_from_k_means_on_all_items():
    started = RQVAE(**SMALL, epochs=0).fit(X)
    x = torch.from_numpy((X - started.mean_) / started.scale_)
    z = started.network_.encoder(x).detach()
    first = started.network_.quantiser.layers[0].codebook
    error = torch.cdist(z, first).min(1).values.square().sum()
    assert float(error) < 0.5 * float(((z - z.mean(0)) ** 2).sum())


def test_what_averaging_the_error_a_random_start_and_no_revival_cause_is_diagnosed():
    random = np.random.default_rng(0)
    wide = random.normal(size=(600, 32)) @ random.normal(size=(32, 768))  # 768 features, as text vectors have

    def diagnosis(**settings):
        tokenizer = RQVAE(**{**SMALL, "batch": 100, "codes": 32, "lr": 2e-3}, epochs=20, **settings)
        book = make_codebook(tokenizer, wide, resolve="none")
        return book, [sentence.split(":")[0] for sentence in codebook_report.doctor(book)]

    sound, nothing = diagnosis()
    averaged, wasted = diagnosis(reconstruction="mean")
    sick, unused = diagnosis(reconstruction="mean", start=False, revive=0)
    assert nothing == [] and codebook_report.report(sound)["used"].min() == 32
    assert "Nothing explained" in wasted and averaged.residual[3] > sound.residual[3] + 0.1
    assert "Low use" in unused and codebook_report.report(sick)["used"].min() < 20


def test_the_history_shows_use_and_unique_tuples(fitted):
    last = fitted.history_[-1]
    codes = fitted.encode(X)
    assert last["epoch"] == 19 and last["reconstruction"] < 0.6 * fitted.history_[0]["reconstruction"]
    assert last["use 0"] == 1 and abs(last["unique"] - len(np.unique(codes, axis=0)) / len(X)) < 0.1


def test_sinkhorn_fills_every_code_equally_where_exp_would_vanish():
    distances = torch.rand(300, 20, generator=torch.Generator().manual_seed(0)) ** 2 * 50
    plan = sinkhorn(distances, rounds=400)
    torch.testing.assert_close(plan.sum(1), torch.ones(300, dtype=torch.double))
    assert bool(((plan.sum(0) - 15).abs() < 0.75).all())
    assert float((torch.exp(-distances / 0.003) == 0).float().mean()) > 0.9


def test_a_balanced_last_level_distinguishes_nearly_all_items_and_changes_no_others(fitted):
    plain = fitted.encode(X)
    fitted.sinkhorn = True
    try:
        spread = fitted.encode(X)
    finally:
        fitted.sinkhorn = False
    assert np.array_equal(plain[:, :-1], spread[:, :-1])
    alone = np.unique(plain, axis=0, return_inverse=True, return_counts=True)
    single = alone[2][alone[1].ravel()] == 1
    assert np.array_equal(plain[single], spread[single])
    before, after = (len(np.unique(one, axis=0)) / len(X) for one in (plain, spread))
    assert before < 0.9 and after > before + 0.08


def test_the_collaborative_term_pulls_codes_towards_co_occurrence():
    random = np.random.default_rng(1)
    of = random.integers(0, 8, len(X))  # groups that the vectors know nothing of
    other = 4 * np.eye(8, dtype=np.float32)[of]
    noise = random.normal(size=X.shape).astype(np.float32)  # nothing in common but the item

    def trained(alpha):
        tokenizer = RQVAE(**SMALL, epochs=20, collaborative=alpha).fit(noise, collaborative=other)
        book = make_codebook(tokenizer, noise, resolve="none")
        return codebook_report.report(book, of)["agreement"].iloc[0]

    assert trained(50.0) > 2 * trained(1e-9)


def test_the_collaborative_term_needs_vectors_that_fit():
    with pytest.raises(ValueError, match="needs fit"):
        RQVAE(**SMALL, collaborative=0.02).fit(X)
    with pytest.raises(ValueError, match=r"\(600, 8\), got \(600, 9\); set latent"):
        RQVAE(**SMALL, collaborative=0.02).fit(X, collaborative=np.ones((600, 9)))


def test_the_diversity_loss_wants_codes_near_their_group_and_leaves_the_chosen_one_out():
    words = torch.tensor([[10.0, 0], [9, 0], [0, 10], [0, 9]], requires_grad=True)
    chosen = torch.tensor([0, 1, 2, 3])
    near = diversity_loss(words, torch.tensor([0, 0, 1, 1]), chosen)
    far = diversity_loss(words, torch.tensor([0, 1, 0, 1]), chosen)
    assert float(near.detach()) < 1e-6  # a code's score with itself, 100 to 90, would make it 10
    assert float(far.detach()) > 50
    far.backward()
    assert bool((words.grad.abs().sum(1) > 0).all())
    alone = diversity_loss(words, torch.tensor([0, 1, 2, 3]), chosen)  # no other code in any group
    assert float(alone.detach()) == 0


def test_with_the_diversity_term_codes_are_learned_by_gradient():
    tokenizer = RQVAE(**SMALL, epochs=4, diversity=1e-2, groups=4).fit(X)
    assert {"diversity", "codebook"} < set(tokenizer.history_[-1])
    groups = tokenizer._code_groups()
    assert [len(one) for one in groups] == [16] * 3 and all(int(one.max()) == 3 for one in groups)
    layer = tokenizer.network_.quantiser.layers[0]
    assert layer._codebook.embed.requires_grad
    assert tokenizer.history_[-1]["reconstruction"] < tokenizer.history_[0]["reconstruction"]


def test_fsq_cells_are_a_mixed_radix_number_and_all_chunks_share_them():
    fitted = FSQ(levels=3, values=(5, 4), epochs=1).fit(X)
    assert fitted.sizes_ == (20, 20, 20)
    x = torch.from_numpy((X - fitted.mean_) / fitted.scale_)
    rounded, codes = fitted.network_.quantise(x)
    cell = (rounded * torch.tensor([2, 2]) + torch.tensor([2, 2])).round().long()  # 0..4 and 0..3
    assert torch.equal(cell[..., 0] + 5 * cell[..., 1], codes)
    assert cell.amax((0, 1)).tolist() == [4, 3] and cell.amin((0, 1)).tolist() == [0, 0]
    assert torch.equal(fitted.network_.chunk(x)[:, 1, :3], x[:, 1::3][:, :3])
    with pytest.raises(ValueError, match="at least 3 values"):
        FSQ(values=(2, 2)).fit(X)


def test_fsq_takes_vectors_that_its_chunks_do_not_divide():
    fitted = FSQ(levels=5, values=(5, 3), epochs=1, deal=False).fit(X)
    assert fitted.encode(X).shape == (600, 5) and fitted.decode(fitted.encode(X)).shape == X.shape


def test_orthogonal_experts_look_from_different_sides():
    def alike(weight):
        fitted = ParallelVQ(**{**SMALL, "hidden": ()}, epochs=20, orthogonal=weight).fit(X)
        x = torch.from_numpy((X - fitted.mean_) / fitted.scale_)
        return float(fitted.network_.loss(x).parts["orthogonal"]) / (weight * 24)

    assert alike(1.0) < 0.5 * alike(1e-6)


def test_experts_that_are_copies_are_reported():
    fitted = ParallelVQ(**SMALL, epochs=3).fit(X)
    for which in (fitted.network_.experts, fitted.network_.books):
        which[2].load_state_dict(which[0].state_dict())
    book = make_codebook(fitted, X, resolve="none")
    assert torch.equal(book.codes[:, 0], book.codes[:, 2])
    assert codebook_report.report(book)["shared"].iloc[[0, 2]].tolist() == pytest.approx([1, 1])
    assert any(sentence.startswith("Copies: levels 1 and 3 share 100%") for sentence in codebook_report.doctor(book))


def test_gates_are_shares_and_the_reconstruction_uses_them():
    fitted = ParallelVQ(**SMALL, epochs=5).fit(X)
    gates = fitted.gates(X)
    assert gates.shape == (600, 3) and np.allclose(gates.sum(1), 1, atol=1e-5) and gates.std(0).min() > 0
    network, x = fitted.network_, torch.from_numpy((X - fitted.mean_) / fitted.scale_)
    words, _ = network.quantise(network.views(x))
    mixed = sum(gate[:, None] * one for gate, one in zip(torch.from_numpy(gates).T, words, strict=True))
    error = ((network.decoder(mixed) - x) ** 2).sum(1).mean()
    torch.testing.assert_close(fitted.network_.loss(x).parts["reconstruction"], error, rtol=1e-3, atol=1e-3)
