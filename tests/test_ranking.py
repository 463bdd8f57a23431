"""Lists from scores, and models written to a folder and read back."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.ranking import BLOCK, highest, pairs, top, top_unseen
from seqlab.runs.store import load, save
from seqlab.training.fit import prepare
from tests.synthetic import batch_of, random_log, small

torch.set_num_threads(1)


class Scores(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)

    def score(self, batch):
        return self.rows[batch.user - 1]

    def recommend(self, batch, k):
        return top(self.score(batch), k)


class Lists(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.inner, self.asked = Scores(rows), []

    def recommend(self, batch, k):
        self.asked.append((batch.user.tolist(), k))
        return self.inner.recommend(batch, k)


def test_top_never_lists_padding_and_marks_what_does_not_exist():
    ranking = top(torch.tensor([[9.0, 1.0, 3.0, 2.0], [9.0, -torch.inf, 3.0, -torch.inf]]), 3)
    assert ranking.items.tolist() == [[2, 3, 1], [2, 0, 0]]
    assert ranking.scores.tolist() == [[3.0, 2.0, 1.0], [3.0, -torch.inf, -torch.inf]]
    assert top(torch.zeros(1, 4), 50).items.shape == (1, 3)


def test_top_leaves_the_scores_as_they_were():
    scores = torch.ones(1, 4)
    top(scores, 2)
    assert scores.tolist() == [[1.0, 1.0, 1.0, 1.0]]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 3), st.integers(-3 * BLOCK, 5 * BLOCK), st.booleans(),
    st.sampled_from([1, BLOCK]),
)  # fmt: skip
def test_the_highest_of_many_columns_are_those_of_topk(seed, k, rows, more, coarse, blocks_of_blocks):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, max(k, 4 * BLOCK * k * blocks_of_blocks + more), generator=generator)
    if coarse:  # many ties, and columns that take no part
        scores = scores.round().masked_fill(scores < 0.5, -torch.inf)
    values, columns = highest(scores, k)
    assert torch.equal(values, scores.topk(k, dim=1).values)
    assert torch.equal(scores.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())


@pytest.mark.parametrize("kind", [Scores, Lists])
def test_top_unseen_leaves_out_what_was_met(kind):
    model = kind([[0.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 2)
    batch = batch_of([[1, 3], [2]])
    assert top_unseen(model, batch, 2).items.tolist() == [[2, 4], [1, 3]]
    earlier = torch.tensor([[1, 3, 2], [0, 2, 0]])  # more than the model reads
    assert top_unseen(model, batch, 2, earlier).items.tolist() == [[4, 5], [1, 3]]
    everything = torch.tensor([[1, 2, 3, 4, 5]] * 2)
    assert top_unseen(model, batch, 2, everything).items.tolist() == [[0, 0], [0, 0]]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=60), min_size=1, max_size=4), st.integers(1, 45))
def test_lists_without_what_was_met_are_those_of_the_scores(met, k):
    generator = torch.Generator().manual_seed(len(met) + k)
    rows = torch.randn(len(met), 41, generator=generator).tolist()
    batch, seen = batch_of([[1]] * len(met)), torch.nn.utils.rnn.pad_sequence([torch.tensor(m) for m in met], True)
    scored, listed = (top_unseen(kind(rows), batch, k, seen) for kind in (Scores, Lists))
    assert torch.equal(listed.items, scored.items)
    assert torch.equal(listed.scores, scored.scores)
    for kind, one in ((Scores, scored), (Lists, listed)):
        flat = top_unseen(kind(rows), batch, k, pairs(seen))
        assert torch.equal(flat.items, one.items) and torch.equal(flat.scores, one.scores)


def test_only_who_met_too_much_is_asked_again():
    model = Lists([[-float(item) for item in range(1000)]] * 2)  # the items 1, 2, 3, .. are the best for both
    batch, seen = batch_of([[1], [1]]), torch.zeros(2, 30, dtype=torch.long)
    seen[1] = torch.arange(1, 31)
    assert top_unseen(model, batch, 2, seen).items.tolist() == [[1, 2], [31, 32]]
    assert model.asked == [([1, 2], 8), ([2], 16), ([2], 32)]


@pytest.fixture
def written(tmp_path):
    torch.manual_seed(0)
    save(models.build("sasrec", 10, small("sasrec")), tmp_path, "sasrec", 10)
    return tmp_path


def test_a_folder_holds_two_readable_files_and_no_pickle(written):
    assert sorted(path.name for path in written.iterdir()) == ["config.json", "model.safetensors"]
    described = json.loads((written / "config.json").read_text(encoding="utf-8"))
    assert described["system"] == "sasrec" and described["n_items"] == 10 and described["config"]["dim"] == 32


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(written, name):
    (written / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"is not a finished run: {name} is missing"):
        load(written)


def test_a_cut_off_file_is_no_model(written):
    path = written / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        load(written)


def test_what_could_hold_code_and_what_leads_elsewhere_is_refused(written, tmp_path_factory):
    (written / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"optimizer\.pt can hold code"):
        load(written)
    (written / "optimizer.pt").unlink()
    outside = tmp_path_factory.mktemp("outside") / "secret"
    (written / "model.safetensors").rename(outside)
    (written / "model.safetensors").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link to another place"):
        load(written)


def test_a_header_that_promises_terabytes_is_refused_before_it_is_believed(written):
    (written / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="cannot be read"):
        load(written)


def test_weights_of_another_size_are_refused(written):
    described = json.loads((written / "config.json").read_text(encoding="utf-8"))
    (written / "config.json").write_text(json.dumps(described | {"n_items": 11}), encoding="utf-8")
    with pytest.raises(ValueError, match="weights and configuration do not fit"):
        load(written)


@pytest.mark.parametrize(
    "change",
    [{"n_items": 10**13}, {"config": {"dim": 10**8}}, {"config": {"dim": 20_000, "max_length": 20_000}},
     {"config": {"layers": 10**7}}, {"config": {"layers": 30_000}},
     {"config": {"layers": 1e308}}, {"config": {"dim": "100000000"}},
     {"system": "tiger", "config": {"levels": [2] * 30_000}}],
)  # fmt: skip
def test_a_description_that_promises_terabytes_or_hours_is_refused_before_it_is_built(written, change):
    described = json.loads((written / "config.json").read_text(encoding="utf-8"))
    (written / "config.json").write_text(json.dumps(described | change), encoding="utf-8")
    with pytest.raises(ValueError, match=r"promises [\d,]+ (bytes of weights|of something|layers)"):
        load(written)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("popularity", {"max_length": 10**5}), ("markov", {"max_length": 10**6, "gaps": 10**6}),
     ("item_knn", {"max_length": 10**5}), ("tiger", {"width": 10**5, "levels": (8, 8)})],
)  # fmt: skip
def test_a_setting_that_costs_no_weights_may_be_as_large_as_one_likes(name, chosen, tmp_path):
    model = models.build(name, 12, chosen)
    save(model, tmp_path, name, 12)
    assert load(tmp_path).config == model.config


CUTS = st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=6))  # where, bytes taken out, bytes put in


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["config.json", "model.safetensors"]), st.lists(CUTS, min_size=1, max_size=3), st.booleans())
def test_damaged_files_are_read_or_refused_with_a_sentence(written, name, cuts, early):
    """Any bytes changed, taken out or put in, anywhere or (`early`) in the first two hundred, where headers stand."""
    path = written / name
    whole = path.read_bytes()
    damaged = whole
    for where, out, put in cuts:
        at = int(where * (200 if early else len(damaged)))
        damaged = damaged[:at] + put + damaged[at + out :]
    path.write_bytes(damaged)
    try:
        model = load(written)
    except ValueError as error:
        assert str(written) in str(error)
    else:
        assert model.items.weight.shape[0] == 11
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"system": [], "n_items": 1, "config": {}}',
                                  '{"system": "../sasrec", "n_items": 10, "config": {}}',
                                  '{"system": "sasrec", "n_items": "ten", "config": {}}',
                                  '{"system": "sasrec", "n_items": -5, "config": {}}'])  # fmt: skip
def test_a_description_that_is_none_is_named(written, text):
    (written / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json describes no system"):
        load(written)


def test_counts_whose_size_comes_from_data_are_taken_as_they_are(tmp_path):
    split = leave_one_out(random_log(0))
    model = models.build("markov", split.n_items)
    prepare(model, split)
    save(model, tmp_path, "markov", split.n_items)
    again = load(tmp_path)
    assert len(again.value) > 0 and torch.equal(again.value, model.value) and again.col.dtype == torch.long
