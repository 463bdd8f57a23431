"""Models as folders: written, read back, and refused where files are damaged or untrusted."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.runs.store import load, save
from seqlab.training.fit import prepare
from tests.synthetic import random_log, small

torch.set_num_threads(1)


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


def test_files_that_can_hold_code_and_links_out_of_the_folder_are_refused(written, tmp_path_factory):
    (written / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"optimizer\.pt can hold code"):
        load(written)
    (written / "optimizer.pt").unlink()
    outside = tmp_path_factory.mktemp("outside") / "secret"
    (written / "model.safetensors").rename(outside)
    (written / "model.safetensors").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link to another place"):
        load(written)


def test_a_header_of_terabytes_is_refused_before_allocation(written):
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
def test_a_configuration_of_terabytes_or_hours_is_refused_before_it_is_built(written, change):
    described = json.loads((written / "config.json").read_text(encoding="utf-8"))
    (written / "config.json").write_text(json.dumps(described | change), encoding="utf-8")
    with pytest.raises(ValueError, match=r"promises [\d,]+ (bytes of weights|of something|layers)"):
        load(written)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("popularity", {"max_length": 10**5}), ("markov", {"max_length": 10**6, "gaps": 10**6}),
     ("item_knn", {"max_length": 10**5}), ("tiger", {"width": 10**5, "levels": (8, 8)})],
)  # fmt: skip
def test_a_setting_without_weights_has_no_upper_bound(name, chosen, tmp_path):
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
def test_an_invalid_configuration_is_an_error(written, text):
    (written / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json describes no system"):
        load(written)


def test_buffers_whose_size_depends_on_the_data_are_loaded(tmp_path):
    split = leave_one_out(random_log(0))
    model = models.build("markov", split.n_items)
    prepare(model, split)
    save(model, tmp_path, "markov", split.n_items)
    again = load(tmp_path)
    assert len(again.value) > 0 and torch.equal(again.value, model.value) and again.col.dtype == torch.long
