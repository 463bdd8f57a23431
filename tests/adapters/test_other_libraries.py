"""Taps on SASRec of RecTools and of RecBole, and on GPT-2 of Hugging Face, each where it is installed.

They are no dependencies. In an environment with one of them (see tests/benchmarks/peers/*.txt), pytest and lazy_loader:

    PYTHONPATH=. python -m pytest --noconftest -c /dev/null --rootdir . tests/adapters/test_other_libraries.py
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import seqlab
from tests.adapters.test_modules import own_attention, own_output

WEIGHTS = "user head query_event key_event"
STATES = "user event dim"
ITEMS = torch.tensor([[0, 0, 3, 1, 2], [1, 5, 4, 2, 6]])


def bit_equal_around(module, places, run):
    """The trace of one watched pass; without a watch, the outputs are equal to the last bit before and after it."""
    with torch.no_grad():
        before = run()
        seqlab.tap(module, places)
        assert torch.equal(run(), before)
        with seqlab.watch(module) as trace:
            torch.testing.assert_close(run(), before)
        assert torch.equal(run(), before)
    return trace, before


def test_sasrec_of_rectools():
    models = pytest.importorskip("rectools.models", reason="RecTools is not installed")
    dataset = pytest.importorskip("rectools.dataset").Dataset
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame({"user_id": np.repeat([1, 2], 6), "item_id": np.tile(range(1, 7), 2), "weight": 1.0})
    rows["datetime"] = pandas.to_datetime(np.arange(12), unit="s")
    fitted = models.SASRecModel(n_blocks=2, n_heads=2, n_factors=8, session_max_len=5, epochs=1, batch_size=2)
    net = fitted.fit(dataset.construct(rows)).torch_model.eval()

    def run():
        return net.encode_sessions({"x": ITEMS}, net.item_model.get_all_embeddings())

    layers = "transformer_layers.transformer_blocks"
    trace, before = bit_equal_around(net, {f"{layers}.*.multi_head_attn": WEIGHTS, f"{layers}.*": STATES}, run)
    assert trace["attention"].taps == (f"{layers}.0.multi_head_attn", f"{layers}.1.multi_head_attn")
    x = net.item_model.get_all_embeddings()[ITEMS]
    keep = (ITEMS > 0)[..., None].float()
    x = net.pos_encoding_layer(x)
    for at, block in enumerate(net.transformer_layers.transformer_blocks):
        x = x * keep
        query = block.q_layer_norm(x)
        weights, value = own_attention(block.multi_head_attn, query, x, x, torch.ones(5, 5).triu(1).bool())
        torch.testing.assert_close(trace["attention"].values[at], weights.detach())
        x = block.ff_layer_norm(query + own_output(block.multi_head_attn, weights, value))
        x = block.feed_forward(x) + x
        torch.testing.assert_close(trace["hidden"].values[at], x.detach())
    last = trace["hidden"].values[1]
    with torch.no_grad(), seqlab.patch(net, {f"{layers}.1": lambda x: last.flip(0)}):
        patched = run()
    torch.testing.assert_close(patched[:, 2:], before.flip(0)[:, 2:])
    with torch.no_grad(), seqlab.patch(net, {f"{layers}.0.multi_head_attn": torch.zeros_like}):
        assert not torch.allclose(run(), before)


def test_sasrec_of_recbole():
    library = pytest.importorskip("recbole.model.sequential_recommender.sasrec", reason="RecBole is not installed")
    settings = {
        "USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "length",
        "NEG_PREFIX": "neg_", "MAX_ITEM_LIST_LENGTH": 5, "device": "cpu", "n_layers": 2, "n_heads": 2, "hidden_size": 8,
        "inner_size": 16, "hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "initializer_range": 0.5, "loss_type": "CE",
    }  # fmt: skip
    model = library.SASRec(settings, SimpleNamespace(num=lambda name: 7)).eval()
    items, lengths = torch.tensor([[3, 1, 2, 0, 0], [1, 5, 4, 2, 6]]), torch.tensor([3, 5])

    def run():
        return model.full_sort_predict({"item_list": items, "length": lengths})

    attention = "trm_encoder.layer.*.multi_head_attention.softmax"
    trace, before = bit_equal_around(model, {attention: WEIGHTS, "trm_encoder.layer.*": STATES}, run)
    assert trace["attention"].values.shape == (2, 2, 2, 5, 5)
    for at, layer in enumerate(model.trm_encoder.layer):
        mixing = layer.multi_head_attention
        x = model.item_embedding(items) + model.position_embedding.weight
        x = model.LayerNorm(x) if at == 0 else trace["hidden"].values[at - 1]
        q, k = (part(x).view(2, 5, 2, 4) for part in (mixing.query, mixing.key))
        hidden = torch.ones(5, 5).triu(1).bool() | (items == 0)[:, None, None]
        logits = torch.einsum("blhd,bshd->bhls", q, k) / 2
        weights = logits.masked_fill(hidden, -1e9).softmax(-1).detach()
        torch.testing.assert_close(trace["attention"].values[at][:, :, -1], weights[:, :, -1])
        torch.testing.assert_close(trace["attention"].values[at][1], weights[1])
    other = trace["trm_encoder.layer.1"].values.flip(0)
    with torch.no_grad(), seqlab.patch(model, {"trm_encoder.layer.1": lambda x: other.expand_as(x)}):
        expected = other[torch.arange(2), lengths - 1] @ model.item_embedding.weight.T
        torch.testing.assert_close(run(), expected)
    with torch.no_grad(), seqlab.patch(model, {attention.replace("*", "1"): torch.zeros_like}):
        assert not torch.allclose(run(), before)


def test_gpt2_of_hugging_face():
    library = pytest.importorskip("transformers", reason="Hugging Face's transformers are not installed")
    config = library.GPT2Config(
        vocab_size=7, n_positions=5, n_embd=8, n_layer=2, n_head=2, attn_implementation="eager"
    )  # fmt: skip
    torch.manual_seed(0)
    model = library.GPT2LMHeadModel(config).eval()
    own = model(ITEMS, output_attentions=True, output_hidden_states=True)

    def run():
        return model(ITEMS).logits

    places = {"transformer.h.*.attn": WEIGHTS, "transformer.h.*": STATES, "transformer.wte": "inputs: " + STATES}
    trace, before = bit_equal_around(model, places, run)
    torch.testing.assert_close(trace["attention"].values, torch.stack(own.attentions).detach())
    torch.testing.assert_close(trace["transformer.h.0"].values, own.hidden_states[1].detach())
    q, k, _ = model.transformer.h[0].attn.c_attn(model.transformer.h[0].ln_1(own.hidden_states[0])).chunk(3, -1)
    q, k = (x.view(2, 5, 2, 4).transpose(1, 2) for x in (q, k))
    logits = (q @ k.transpose(2, 3) / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(trace["transformer.h.0.attn"].values, logits.softmax(-1).detach())
    last = trace["transformer.h.1"].values
    with torch.no_grad(), seqlab.patch(model, {"transformer.h.1": lambda x: last.flip(0)}):
        torch.testing.assert_close(run(), before.flip(0))
    refused = pytest.raises(ValueError, match="it has used them already and they cannot be patched")
    with refused, seqlab.patch(model, {"transformer.h.0.attn": torch.zeros_like}):
        run()
    fused = library.GPT2LMHeadModel(library.GPT2Config(**config.to_dict() | {"attn_implementation": "sdpa"})).eval()
    seqlab.tap(fused, {"transformer.h.*.attn[1]": WEIGHTS})
    with pytest.raises(ValueError, match=r"None, not a tensor.*a fused kernel"), seqlab.watch(fused):
        fused(ITEMS)
    with pytest.raises(ValueError, match=r"no part 'transformer\.h\.0\.attention'\. The nearest: transformer\.h\.0"):
        seqlab.tap(model, {"transformer.h.0.attention": WEIGHTS})
