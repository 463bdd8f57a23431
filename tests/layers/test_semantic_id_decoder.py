"""The code writer: cached equals uncached, every position counts once, what mixes codes reaches what is written."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

import seqlab
from seqlab import decoding
from seqlab.layers.semantic_id_decoder import SemanticIdDecoder
from seqlab.tokenizers.trie import Trie
from tests.synthetic import batch_of, set_targets, with_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 6)
CODES = torch.stack(
    [torch.randint(size, (ITEMS + 1,), generator=torch.Generator().manual_seed(size)) for size in LEVELS], 1
)
CODES[0] = -1  # as of a catalogue whose codes are not known yet
CODES[12] = CODES[30]
TRIE = Trie(CODES, LEVELS)

both_layouts = pytest.mark.parametrize("encoder", [False, True], ids=["one sequence", "behind an encoder"])
plain_or_mixed = pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixed"])


@dataclass(frozen=True)
class Small:
    levels: tuple[int, ...] = LEVELS
    max_length: int = 8
    dim: int = 16
    layers: int = 2
    heads: int = 2
    dropout: float = 0.0


class Sums(torch.nn.Module):
    """Mixes every code with those before it, each place with a weight of its own."""

    def __init__(self, written):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.empty(len(LEVELS), len(LEVELS)))

    def forward(self, x, last_only=False):
        n = x.shape[2]
        mixed = torch.einsum("mn,btnd->btmd", self.weights[:n, :n].tril(), x)
        return mixed[:, :, -1:] if last_only else mixed


def writer(encoder=False, mixed=False):
    """A small writer whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    model = SemanticIdDecoder(Small(), encoder, Sums if mixed else None)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def decoder(model, batch):
    return model.decoder(CODES[batch.items], batch.lengths)


@torch.no_grad()
def exact(model, batch):
    return decoding.exact(decoder(model, batch), TRIE)


@torch.no_grad()
def loss(model, batch):
    """Minus the log-probabilities of the answers that training reads: (M,)."""
    states, items = model.teacher_forcing(batch, CODES, cuts=10)  # more than there are: none is left out
    each = [
        F.cross_entropy(head(states[:, c]), CODES[items, c], reduction="none") for c, head in enumerate(model.heads)
    ]
    return torch.stack(each).sum(0)


@both_layouts
@plain_or_mixed
def test_step_by_step_decoding_scores_as_the_training_pass(encoder, mixed):
    model = writer(encoder, mixed)
    scores = exact(model, batch_of(HISTORIES))
    for row, history in enumerate(HISTORIES[:3]):
        for item in range(1, ITEMS + 1, 3):
            assert float(scores[row, item]) == pytest.approx(
                -float(loss(model, with_targets([history], [item]))), abs=3e-5
            )


@both_layouts
@plain_or_mixed
def test_the_loss_of_all_positions_is_that_of_each_prefix_alone(encoder, mixed):
    model, history = writer(encoder, mixed), [3, 7, 7, 1, 5, 2]
    targets = torch.tensor([history[1:], [9, 0, 0, 0, 0]])  # nothing follows the second one's last item
    alone = [loss(model, with_targets([history[:end]], [history[end]])) for end in range(1, 6)]
    alone.append(loss(model, with_targets([[4]], [9])))
    together = loss(model, set_targets(batch_of([history[:-1], [4, 9]]), targets))
    torch.testing.assert_close(together.sort().values, torch.cat(alone).sort().values)


def test_an_encoder_trains_on_random_cuts():
    model, batch = writer(encoder=True), batch_of([[3, 7, 1, 5, 2], [4, 9]])
    batch = set_targets(batch, torch.tensor([[7, 1, 5, 2, 8], [9, 6, 0, 0, 0]]))
    torch.manual_seed(0)
    drawn = [model.teacher_forcing(batch, CODES, cuts=2)[1].tolist() for _ in range(20)]
    assert all(len(set(items)) == 4 for items in drawn)
    assert {item for items in drawn for item in items} == {7, 1, 5, 2, 8, 9, 6}


@both_layouts
@plain_or_mixed
def test_a_beam_finds_the_exact_scores_and_as_wide_as_the_catalogue_all_of_them(encoder, mixed):
    model, batch = writer(encoder, mixed), batch_of(HISTORIES)
    scores = exact(model, batch)
    items, found = decoding.beam(decoder(model, batch), TRIE, ITEMS).items(ITEMS)
    assert torch.equal(items.sort(1).values, torch.arange(1, ITEMS + 1).expand(4, -1))
    torch.testing.assert_close(found, scores[:, 1:].sort(1, descending=True).values)
    items, found = decoding.beam(decoder(model, batch), TRIE, 3).items(3)
    torch.testing.assert_close(found, scores.gather(1, items))  # parents were followed


@both_layouts
@plain_or_mixed
def test_neither_padding_nor_other_users_change_a_score(encoder, mixed):
    model = writer(encoder, mixed)
    together = exact(model, batch_of(HISTORIES))
    assert together[:, 1:].isfinite().all()
    torch.testing.assert_close(exact(model, batch_of(HISTORIES, width=8)), together, atol=1e-5, rtol=1e-5)
    for row, history in enumerate(HISTORIES):
        torch.testing.assert_close(exact(model, batch_of([history], width=1))[0], together[row], atol=1e-5, rtol=1e-5)


@both_layouts
def test_a_watched_beam_is_the_same_and_padding_is_masked(encoder):
    model, batch = writer(encoder), batch_of(HISTORIES)
    plain = decoding.beam(decoder(model, batch), TRIE, 7)
    with seqlab.watch(model) as trace:
        watched = decoding.beam(decoder(model, batch), TRIE, 7)
    torch.testing.assert_close(watched.scores, plain.scores)
    kind = "written cross attention" if encoder else "written attention"
    weights = trace[kind].passes[-1].values  # of the last code: what each beam looked at
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    history = weights[..., 1, :, :, : 3 * 7 + 1]
    assert float(history[..., 1 + 3 :].abs().max()) == 0  # the second user has one item


@both_layouts
def test_a_patch_of_the_blocks_reaches_the_generated_codes(encoder):
    model, batch = writer(encoder), batch_of(HISTORIES)
    plain = exact(model, batch)
    for name in ("blocks.1.mixer.weights", "cross_blocks.1.written_weights" if encoder else "written.1.weights"):
        with seqlab.patch(model, {name: lambda weights: weights * 0}):
            assert float((exact(model, batch) - plain)[:, 1:].abs().min()) > 1e-6


@both_layouts
def test_a_step_reads_no_more_than_one_token_per_beam(encoder):
    model, seen = writer(encoder), []
    block = model.cross_blocks[0].block if encoder else model.blocks[0]
    block.feed_forward.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[:2])))
    with torch.no_grad():
        decoding.beam(decoder(model, batch_of(HISTORIES)), TRIE, 4)
    read = (4, 1) if encoder else (4, 1 + 3 * 7)  # the first token of the decoder, or the history
    assert seen == [read, (4, 4), (4, 4)]
