"""The setting `decoding`: which systems take which method, with which settings, and what it finds."""

import pytest
import torch

from seqlab import decoding, models, ranking
from seqlab.contracts import GeneratesCodes, supports
from seqlab.decoding.settings import METHODS, SETTINGS, Decoding, identify, methods, parse, resolve, stored
from seqlab.runtime.settings import field_types
from tests.synthetic import batch_of, coded, small

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10]]
WRITERS = [name for name in models.names() if supports(models.system(name), GeneratesCodes)]
"""The systems that generate codes one after another."""


def listed(model, k, **settings):
    return decoding.recommend(model, batch_of(HISTORIES), k, Decoding(**settings))


@pytest.mark.parametrize("name", WRITERS)
@torch.no_grad()
def test_every_system_that_generates_codes_takes_every_method(name):
    model = coded(name)
    assert set(methods(model)) == set(METHODS)
    batch, scores = batch_of(HISTORIES), decoding.scores(model, batch_of(HISTORIES))
    for method in METHODS:
        model.decoding = Decoding(method)
        found = model.recommend(batch, 6)
        assert bool((found.items[:, 0] > 0).all()) and bool((found.scores.diff(dim=1) <= 0).all())
        there = found.items > 0
        torch.testing.assert_close(found.scores[there], scores.gather(1, found.items)[there], atol=1e-4, rtol=1e-4)
        assert bool((found.scores[~there] == -torch.inf).all())
        score = ranking.catalogue_scorer(model)
        assert (score is None) == (method != "exact")
        if score is not None:
            torch.testing.assert_close(score(batch), scores)
        alone = torch.cat([model.recommend(batch.select(torch.tensor([row])), 6).items[:, :1] for row in range(3)])
        assert torch.equal(alone, found.items[:, :1])


@torch.no_grad()
def test_a_wide_beam_is_exact_and_one_group_of_a_diverse_beam_is_a_beam():
    model = coded("tiger")
    exact, wide = listed(model, 40, method="exact"), listed(model, 40, method="beam", width=200)
    torch.testing.assert_close(wide.scores, exact.scores)
    one, beam = listed(model, 6, method="diverse", width=6, groups=1), listed(model, 6, method="beam", width=6)
    assert torch.equal(one.items, beam.items) and torch.equal(one.tied, beam.tied)
    torch.testing.assert_close(one.scores, beam.scores)
    assert listed(model, 6, method="diverse", width=5, groups=4).items.shape == (3, 6)  # a width of 8
    whole, drawn = listed(model, 9, method="typical", mass=1.0), listed(model, 9, method="sample")
    assert torch.equal(whole.items, drawn.items)


@torch.no_grad()
def test_a_list_of_few_draws_is_short_and_another_seed_gives_others():
    model = coded("tiger")
    few = listed(model, 30, method="sample", draws=3)
    assert few.items.shape[1] < 30 and bool(((few.items > 0) == (few.scores > -torch.inf)).all())
    lists = [listed(model, 30, method="sample", draws=3, draw_seed=seed).items.tolist() for seed in (0, 0, 1)]
    assert lists[0] == lists[1] != lists[2]
    cold, hot = (listed(model, 30, method="sample", draws=30, temperature=one) for one in (0.01, 5.0))
    assert (cold.items > 0).sum() < (hot.items > 0).sum()
    greedy = listed(model, 1, method="beam", width=1)
    model.decoding = Decoding("sample", draws=3)
    unseen = ranking.top_unseen(model, batch_of(HISTORIES), 8, few.items)
    assert not bool((unseen.items > 0).any())  # all that was drawn is taken out, and there is no more
    assert int((cold.items[:, :1] == greedy.items).sum()) >= 2


@torch.no_grad()
def test_the_walk_of_every_item_sums_to_one():
    law = decoding.law(coded("tiger"), batch_of(HISTORIES))
    torch.testing.assert_close(law.sum(1), torch.ones(3, dtype=torch.float64))
    model = coded("tiger")
    codes = model.ids.codes
    same = [(a, b) for a in range(1, 41) for b in range(a + 1, 41) if torch.equal(codes[a], codes[b])]
    assert same and all(torch.equal(law[:, a], law[:, b]) for a, b in same) and not bool(law[:, 0].any())


def test_what_a_method_does_not_take_is_refused_in_a_sentence():
    cases = [
        ("tiger", {"groups": 3}, "tiger: decoding=beam takes no groups (a setting of diverse); it takes width."),
        ("tiger", {"decoding": "exact", "width": 3}, "decoding=exact takes no width (a setting of beam, diverse)"),
        ("tiger", {"decoding": "sample", "prune": 0.1}, "decoding=sample takes no prune; it takes draws, temp"),
        ("tiger", {"decoding": "divers"}, "decoding must be '', 'exact', 'beam', 'diverse', 'typical' or 'sample'"),
        ("tiger", {"width": "0"}, "width must be at least 1, or none (got '0')"),
        ("tiger", {"widht": "5"}, "tiger has no setting 'widht'. Did you mean 'width'?"),
        ("reg4rec", {"decoding": "diverse"}, "reg4rec has no decoding=diverse; it has: beam, exact."),
        ("recgpt", {"width": 5}, "recgpt: decoding=exact takes no width"),
        ("sasrec", {"decoding": "beam"}, "sasrec generates no codes, so there is no decoding to choose"),
        ("setrec", {"decoding": "exact"}, "setrec generates no codes, so there is no decoding to choose"),
    ]
    for name, settings, sentence in cases:
        with pytest.raises(ValueError) as refused:
            models.build(name, 10, small(name) | settings)
        assert sentence in str(refused.value)


def test_a_decoding_over_another_keeps_what_its_method_takes():
    preset = Decoding(width=50)
    assert Decoding().over(preset) == preset
    assert Decoding(width=7).over(preset).width == 7
    assert Decoding("diverse", groups=5).over(preset) == Decoding("diverse", width=50, groups=5)
    assert Decoding("typical").over(preset) == Decoding("typical")
    assert parse({"decoding": "diverse", "width": "8", "strength": "1e-1"}) == Decoding("diverse", 8, strength=0.1)
    assert parse(Decoding("diverse", 8).settings()) == Decoding("diverse", 8)


def test_the_identity_of_a_decoding_has_its_settings_with_their_defaults_and_no_others():
    tiger = models.system("tiger")
    assert identify(tiger, None) == identify(tiger, Decoding("beam", 20)) == {"decoding": "beam", "width": 20}
    assert identify(tiger, Decoding("sample"))["draw_seed"] == 0
    assert identify(models.system("sasrec"), None) == {}
    assert identify(models.system("recgpt"), None) == {"decoding": "exact"}
    assert identify(models.system("recgpt"), stored(models.system("recgpt"), {"width": 20})) == {"decoding": "exact"}
    assert resolve(models.system("reg4rec"), Decoding()) == Decoding("beam", 20, prune=0.0)


@pytest.mark.parametrize("name", models.names())
def test_no_setting_of_a_system_goes_by_the_name_of_one_of_its_decoding(name):
    kind = models.system(name)
    taken = {key for method in methods(kind) for key in resolve(kind, Decoding(method)).settings()}
    assert not taken & set(field_types(models.module(name).Config)) and taken <= set(SETTINGS)
