"""What every system promises. A new file in seqlab/models is tested here without a word."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models, tracing
from seqlab.contracts import ItemVectors, Learns, Recommends, Scores, UserStates, supports
from seqlab.datasets import leave_one_out
from seqlab.evaluation import metrics
from seqlab.inspection.attention import layout_of
from seqlab.optimization.options import Options
from seqlab.ranking import top_unseen
from seqlab.runs.store import load, save
from seqlab.tasks import measure, next_item
from seqlab.tokenizers import CodeBook
from seqlab.training.fit import fit, prepare
from tests.models.promises import every_axis_fits, states_know_the_past_alone
from tests.synthetic import batch_of, chain_log, cycle_log, enlarged, log_of, small

torch.set_num_threads(1)

FILES = models.names()
SYSTEMS = [name for name in FILES if models.card(name).task == "next_item"]
TRAINED = [name for name in SYSTEMS if supports(models.system(name), Learns)]
HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], [10, 9]]
SPLIT = leave_one_out(cycle_log())
QUICK = Options(epochs=2, tokens=128, learning_rate=1e-2, warmup=5)

every_file = pytest.mark.parametrize("name", FILES)
every_system = pytest.mark.parametrize("name", SYSTEMS)
"""Every system that recommends the next item; what systems of other tasks promise is tested beside their tasks."""


def ready(name, split=SPLIT, **settings):
    """A small system after its look at the training part, in evaluation mode."""
    torch.manual_seed(0)
    model = models.build(name, split.n_items, small(name, **settings))
    prepare(model, split)
    return model.eval()


def answers(model, batch, k=10):
    """Whatever the system says: all scores, or its list where it has none."""
    with torch.no_grad():
        if supports(model, Scores):
            return model.score(batch)[:, 1:]
        ranking = model.recommend(batch, k)
        order = ranking.items.argsort(1)
        return ranking.scores.gather(1, order)


@every_file
def test_the_config_survives_json_and_the_command_line(name):
    config = models.configure(name, {})
    described = dataclasses.asdict(config)
    assert models.configure(name, json.loads(json.dumps(described))) == config
    typed = {key: str(value).lower() for key, value in described.items() if not isinstance(value, tuple)}
    assert models.configure(name, typed) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_length = 3


@every_file
def test_no_setting_goes_by_the_name_of_a_training_option(name):
    assert not set(dataclasses.asdict(models.configure(name, {}))) & set(dataclasses.asdict(QUICK))


@every_file
def test_a_whole_number_that_counts_nothing_is_refused(name):
    for key, value in dataclasses.asdict(models.configure(name, {})).items():
        numbers = value if isinstance(value, tuple) else (value,)
        if all(type(one) is int for one in numbers):
            wrong = [-2] * len(numbers) if isinstance(value, tuple) else -2
            for construct in (models.module(name).Config, lambda **given: models.build(name, 10, given)):
                with pytest.raises(ValueError, match=rf"{name}\.{key} must be .*at least [01].* \(got"):
                    construct(**{key: wrong})


@every_file
def test_a_misspelt_setting_is_answered_with_the_right_one(name):
    with pytest.raises(ValueError, match=rf"{name} has no setting 'max_lenght'.*Did you mean 'max_length'"):
        models.build(name, 10, {"max_lenght": 3})


@every_file
def test_the_docstring_has_all_parts_of_a_card(name):
    card = models.module(name).__doc__
    first, second = card.splitlines()[:2]
    assert ": " in first and first.endswith(".") and not second
    for part in ("Paper:", "Confirmed", "Reconstructed:", "Held against:"):
        assert part in card


@every_system
def test_the_defaults_build_and_answer(name):
    model = models.build(name, SPLIT.n_items)
    prepare(model, SPLIT)
    assert supports(model, Recommends)
    assert answers(model.eval(), batch_of(HISTORIES)).shape == (4, 10)


FIVE = leave_one_out(
    log_of([[(user + step) % 5 + 1 for step in range(7)] for user in range(9)], repeats=True, title="title",
           items=pd.DataFrame({"item": range(1, 6), "title": ["Apple", "Pear", "Plum", "Quince", "Sloe"]}))
)  # fmt: skip
"""Five items whose titles have no word in common."""


@every_system
def test_the_defaults_suit_a_catalogue_of_five_items(name):
    quick = {"field_epochs": 1} if name == "resid" else {}
    model = models.build(name, FIVE.n_items, quick)
    prepare(model, FIVE)
    items = model.eval().recommend(batch_of([[3, 1, 2], [5]]), 5).items
    assert items.sort(1).values.tolist() == [[1, 2, 3, 4, 5]] * 2


@every_system
def test_scores_are_finite_and_belong_to_the_caller(name):
    model = ready(name)
    if not supports(model, Scores):
        pytest.skip("makes lists")
    batch = batch_of(HISTORIES)
    with torch.no_grad():
        scores = model.score(batch)
        assert scores.shape == (4, SPLIT.n_items + 1)
        assert scores[:, 1:].isfinite().all()
        kept = scores.clone()
        scores.fill_(-1)  # evaluation writes into them: a system must not hand out what it keeps
        assert torch.equal(model.score(batch)[:, 1:], kept[:, 1:])


@every_system
def test_lists_hold_items_once_best_first_and_never_padding(name):
    model = ready(name)
    with torch.no_grad():
        ranking = model.recommend(batch_of(HISTORIES), 6)
    assert ranking.items.shape == ranking.scores.shape == (4, 6)
    assert ranking.items.dtype == torch.long
    assert int(ranking.items.min()) >= 1 and int(ranking.items.max()) <= SPLIT.n_items
    assert all(len(set(row)) == 6 for row in ranking.items.tolist())
    assert bool((ranking.scores.diff(dim=1) <= 0).all())


@every_system
def test_a_list_is_as_long_as_is_wanted_or_as_the_catalogue_and_k_counts_from_1(name):
    model, batch = ready(name), batch_of(HISTORIES)
    with torch.no_grad():
        for ask in (model.recommend, lambda batch, k: top_unseen(model, batch, k)):
            for k, width in ((1, 1), (np.int64(3), 3), (10, 10), (11, 10), (1000, 10)):
                ranking = ask(batch, k)
                assert ranking.items.shape == ranking.scores.shape == (4, width)
            for wrong in (0, -1, -1000, 2.5, 40.0, True, None, "3"):
                with pytest.raises(ValueError, match=rf"^k must be a whole number of at least 1 \(got {wrong}\)$"):
                    ask(batch, wrong)


@every_system
def test_a_list_reports_what_ties_with_its_last_item(name):
    """Some of what evaluation relies on: with two codes a level, most items share their tuple with others."""
    if supports(models.system(name), Scores):
        pytest.skip("scores the catalogue")
    book = CodeBook(torch.tensor([[0, 0, 0, 0], *[[item % 2, item % 3 // 2, 0, 0] for item in range(10)]]), (2,) * 4)
    torch.manual_seed(0)
    model = models.build(name, SPLIT.n_items, small(name, levels=(2,) * 4, width=4))
    model.ids.assign(book)
    prepare(model, SPLIT)
    whole = model.eval().recommend(batch_of(HISTORIES), 10)
    for k in range(1, 10):
        some = model.recommend(batch_of(HISTORIES), k)
        for row in range(4):
            beyond = whole.items[row, k:][whole.scores[row, k:] == whole.scores[row, k - 1]]
            assert sorted(some.tied[row][some.tied[row] > 0].tolist()) == sorted(beyond.tolist())
    assert whole.tied.shape == (4, 0)


@pytest.mark.parametrize(("name", "settings"), [
    *((name, {}) for name in SYSTEMS), ("rearec", {"backbone": "bert4rec"}), ("rearec", {"backbone": "gru4rec"}),
    ("mancar", {"epsilon": 0.3}), ("reg4rec", {"order": "random", "prune": 0.4}), ("reg4rec", {"order": "fixed"}),
    ("tiger", {"layout": "encoder_decoder"}), ("discrec", {"layout": "encoder_decoder"}),
])  # fmt: skip
def test_a_score_depends_on_neither_padding_nor_other_users(name, settings):
    """Also for an empty history, and with weights large enough for every token to matter."""
    model, histories = enlarged(ready(name, **settings)), [*HISTORIES, []]
    expected = answers(model, batch_of(histories))
    torch.testing.assert_close(answers(model, batch_of(histories, width=8)), expected, atol=1e-4, rtol=1e-4)
    single = torch.cat([answers(model, batch_of([history], width=1)) for history in histories])
    torch.testing.assert_close(single, expected, atol=1e-4, rtol=1e-4)


@every_system
def test_ranks_depend_neither_on_the_order_of_users_nor_on_the_batches(name, monkeypatch):
    """Not at all for systems that count; others' scores are rounded otherwise, so an answer whose score is that of
    another item but for rounding may change places with it."""
    split = leave_one_out(chain_log())
    model = ready(name, split)
    expected, clear = measure(model, split).frame, pd.Series(True, range(split.n_users))
    if supports(model, Learns):
        scores = answers(model, split.test.batch(torch.arange(len(split.test)), model.config.max_length), k=20)
        gaps = scores.sort(dim=1).values.diff(dim=1).amin(1)
        if supports(model, Scores):
            own = scores.gather(1, split.test.item[:, None] - 1)
            gaps = (scores - own).abs().kthvalue(2).values  # the nearest is the answer itself
        clear = pd.Series((gaps > 2e-6 * scores.abs().amax(1)).numpy())
    assert clear.mean() > 0.8
    monkeypatch.setattr(next_item, "MAX_TOKENS", 50)
    monkeypatch.setattr(next_item, "MAX_SCORES", 5 * (split.n_items + 1))
    order = torch.randperm(len(split.test), generator=torch.Generator().manual_seed(0))
    found = measure(model, dataclasses.replace(split, test=split.test.select(order))).frame
    assert found["user"].tolist() == expected["user"][order.numpy()].tolist()
    found = found.sort_values("user", ignore_index=True)
    pd.testing.assert_frame_equal(found[clear], expected[clear])


BACKBONES = [("rearec", {"backbone": "bert4rec"}), ("rearec", {"backbone": "gru4rec"})]


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in SYSTEMS), *BACKBONES])
def test_states_know_the_past_alone(name, settings):
    model = ready(name, **settings)
    if not supports(model, UserStates):
        pytest.skip("has no states after every event")
    states_know_the_past_alone(model, batch_of([[3, 7, 7, 1, 5, 2, 9], [8, 6, 4, 2, 10, 1, 5]]), SPLIT.n_items)


@every_system
def test_the_item_vectors_have_a_row_for_every_item_and_one_for_padding(name):
    model = ready(name)
    if not supports(model, ItemVectors):
        pytest.skip("has no table of item vectors")
    vectors = model.item_vectors()
    assert vectors.shape == (SPLIT.n_items + 1, model.config.dim) and not bool(vectors[0].any())


@every_system
def test_a_watched_model_scores_the_same(name):
    model = ready(name, **({"layers": 2} if "layers" in small(name) else {}))
    batch = batch_of(HISTORIES)
    unwatched = answers(model, batch)
    with tracing.watch(model) as trace:
        watched = answers(model, batch)
    torch.testing.assert_close(watched, unwatched, atol=1e-5, rtol=1e-5)
    assert bool(trace) == bool(tracing.taps(model))


@pytest.mark.parametrize(("name", "settings"), [
    *((name, {}) for name in SYSTEMS), ("rearec", {"steps": 0}), ("rearec", {"objective": "erl"}),
    ("rearec", {"backbone": "bert4rec"}), ("rearec", {"backbone": "gru4rec"}), ("mancar", {"steps": 0}),
    ("mancar", {"context": False}), ("mancar", {"triggers": 2, "neighbours": 3}), ("setrec", {"semantic": 1}),
    ("recgpt", {"levels": (27, 27), "values": (3, 3, 3)}), ("tiger", {"layout": "encoder_decoder"}),
    ("tiger", {"levels": (4, 9)}), ("discrec", {"layout": "encoder_decoder"}),
])  # fmt: skip
def test_every_axis_is_as_long_as_its_name_says(name, settings):
    model = ready(name, **({"layers": 3} if "layers" in small(name) else {}), **settings)
    batch = batch_of([*HISTORIES, [4]], width=8)
    with tracing.watch(model) as trace:
        answers(model, batch)
    every_axis_fits(model, batch, trace, SPLIT.n_items)
    if "attention" in trace:
        record, layout = trace["attention"].passes[-1], layout_of(model, batch)
        over = record.axes[-1].removeprefix("key_")
        assert record.axes[-4:] == ("user", "head", f"query_{over}", f"key_{over}")
        assert over == "token" or bool((layout.kind == tracing.KINDS.index("event")).eq(batch.items > 0).all())
        padding = (layout.kind == tracing.KINDS.index("padding"))[:, None]
        there = padding[..., None, :] & ~padding[..., None]  # (B, 1, L, L) padding as seen from what is none
        assert float((record.values * there).abs().sum()) == 0


@every_system
def test_what_is_written_reads_back_to_the_same_answers(name, tmp_path):
    model = ready(name)
    save(model, tmp_path, name, SPLIT.n_items)
    again = load(tmp_path)
    assert again.config == model.config and not again.training
    assert torch.equal(answers(again, batch_of(HISTORIES)), answers(model, batch_of(HISTORIES)))


@every_system
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name):
    settings = small(name) | ({"dropout": 0.2} if "dropout" in small(name) else {})

    def trained(seed):
        torch.rand(seed)  # whatever was drawn before
        model = models.build(name, SPLIT.n_items, settings, seed)
        return fit(model, SPLIT, dataclasses.replace(QUICK, seed=seed)).model.state_dict()

    one, same, other = trained(1), trained(1), trained(2)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert name not in TRAINED or not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_learns_nearly_what_float32_does(name):
    losses = []
    for precision in ("no", "bf16"):
        torch.manual_seed(0)
        model = models.build(name, SPLIT.n_items, small(name))
        run = fit(model, SPLIT, dataclasses.replace(QUICK, precision=precision))
        losses.append([row["loss"] for row in run.history])
        assert all(tensor.dtype != torch.bfloat16 for tensor in run.model.state_dict().values())
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("name", [*TRAINED, "markov"])
def test_a_cycle_is_memorised(name):
    torch.manual_seed(0)
    model = models.build(name, SPLIT.n_items, small(name))
    options = Options(
        epochs=200, tokens=64, learning_rate=3e-3, warmup=10, metric="mrr@10", validate_every=5, patience=5
    )
    run = fit(model, SPLIT, options)
    assert run.metrics["test"]["recall@1"] > 0.9


@pytest.mark.parametrize("name", [*TRAINED, "markov"])
def test_popularity_is_beaten_where_order_matters(name):
    split = leave_one_out(chain_log(1))
    floor = metrics(measure(ready("popularity", split), split))["ndcg@10"]
    torch.manual_seed(0)
    model = models.build(name, split.n_items, small(name, **({"dropout": 0.1} if "dropout" in small(name) else {})))
    options = Options(epochs=100, tokens=256, learning_rate=5e-3, warmup=10, validate_every=5, patience=2)
    run = fit(model, split, options)
    assert run.metrics["test"]["ndcg@10"] > floor + 0.15


def test_a_system_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"there is no system 'sasrek'.*Did you mean 'sasrec'"):
        models.system("sasrek")
