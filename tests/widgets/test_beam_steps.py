"""BeamSteps operated through its controls, and compared with the search and the exact scores."""

import numpy as np
import pandas as pd
import pytest

from seqlab import decoding, figures, widgets
from tests.widgets.markup import TAGS, assert_escaped


@pytest.fixture
def steps(tigers, split, live):
    return widgets.BeamSteps(tigers[0], split, other=tigers[1], width=3)


def exact(steps, of=0):
    return decoding.scores(steps._runs[of].model, steps._batches[of])[0]


def test_each_prefix_leads_to_the_best_of_its_items(steps, tigers):
    scores, codes = exact(steps), tigers[0].model.ids.codes
    frame = steps.steps()
    assert set(frame["state"]) == {"live", "pruned"}
    for row in frame.itertuples():
        inside = [item for item in range(1, 31) if tuple(codes[item, : row.level + 1].tolist()) == row.prefix]
        best = max(float(scores[item]) for item in inside)
        assert row.item == next(item for item in inside if float(scores[item]) == best)
        assert row.exact_rank == 1 + int((scores[1:] > best).sum())
        assert row.answer == (steps.answer in inside)


def test_all_pruned_prefixes_are_listed(steps, tigers):
    frame = steps.steps()
    trie = tigers[0].model.ids.book.trie
    first = frame[frame["level"] == 0]
    assert len(first) == trie.starts[2] - trie.starts[1]
    chance = np.exp(first["log_probability"].astype(float)).groupby(first["state"]).sum()
    mass = steps.mass().set_index("level").loc[0]
    assert chance["live"] == pytest.approx(mass["live"], abs=1e-6)
    assert chance["pruned"] == pytest.approx(mass["pruned"], abs=1e-6)


def test_the_best_items_are_found_by_beams_of_sufficient_width(steps, tigers):
    found, scores = steps.found_by_width(), exact(steps)
    order = scores[1:].argsort(descending=True)[:10] + 1
    assert set(found["item"]) == set(order.tolist())
    for row in found.itertuples():
        listed = decoding.generate(tigers[0].model, steps._batches[0], row.width).items(10)[0][0].tolist()
        assert (row.place == row.place) == (row.item in listed)
        if row.item in listed:
            assert listed[int(row.place) - 1] == row.item
    assert found.loc[found["width"] == 50, "place"].notna().all()  # wider than the tree: nothing is lost
    assert found.loc[found["width"] == 1, "place"].isna().any()


def test_an_item_is_followed_to_where_it_is_dropped(steps, tigers):
    gone = 0
    for item in range(1, 31):
        followed = steps.follow(item)
        assert len(followed) == 6
        for of, name in enumerate(steps.names):
            fates = followed.loc[followed["run"] == name, "fate"].tolist()
            assert fates in (
                ["kept"] * 3, ["kept", "kept", "dropped"], ["kept", "dropped", "gone"], ["dropped", "gone", "gone"],
            )  # fmt: skip
            beams = decoding.generate(tigers[of].model, steps._batches[of], 3)
            kept = (beams.codes[0] == tigers[of].model.ids.codes[item]).all(-1).any()
            assert (fates[-1] == "kept") == bool(kept)
            gone += fates[-1] == "gone"
            shown = figures.table(followed[followed["run"] == name][["step", "rank"]]).markup
            ranks = followed.loc[followed["run"] == name, "rank"]
            for step, rank in enumerate(ranks, 1):  # a place, not a measure: whole
                assert f"<td class='n'>{step}</td><td class='n'>{'–' if rank is pd.NA else rank}</td>" in shown
    assert gone


def test_two_runs_diverge_at_the_first_step_that_only_one_keeps(steps):
    diverged = 0
    for item in range(1, 31):
        followed, step = steps.follow(item), steps.first_divergence(item)
        one, two = ((followed.loc[followed["run"] == name, "fate"] == "kept").tolist() for name in steps.names)
        differing = [at for at, kept in enumerate(zip(one, two, strict=True), 1) if kept[0] != kept[1]]
        assert step == (differing[0] if differing else None)
        diverged += step is not None
    assert diverged
    assert widgets.BeamSteps(steps._runs[0], steps._split, other=steps._runs[0]).first_divergence(3) is None


def test_the_figure_follows_user_step_and_width(steps):
    figure = steps.figure

    def levels():
        return set(figure.data[0].base)

    assert levels() == {0, 1, 2}
    steps.step.value = 1
    assert levels() == {0}
    steps.step.value = 3
    narrow = len(steps.steps().query("state == 'live' and level == 1"))
    steps.width.value = 5
    assert len(steps.steps().query("state == 'live' and level == 1")) > narrow == 3
    before = figure.layout.annotations[-1].text
    steps.user.value = steps.user.options[1][1]
    assert figure.layout.annotations[-1].text != before
    steps.width.value = 50
    assert not (steps.steps()["state"] == "pruned").any()
    assert steps.figure is figure
    assert not steps.status.view.value


def test_an_item_chosen_by_title_is_followed(steps):
    steps.picker.search.value = "thing 2"
    steps.picker.found.value = 25
    assert "Thing 25" in steps.message.value
    before = steps.message.value
    steps.width.value = 50
    assert steps.message.value != before
    assert steps.message.value.count("kept") == 6


def test_the_caption_names_the_user(steps, split):
    from seqlab.widgets.inputs.picking import titles_of, user_label

    caption = widgets.BeamSteps(steps._runs[0], split, user=steps._users[3]).caption()
    assert user_label(split, steps._users[3]) in caption
    ranks = steps._exact[0][1]
    assert int(ranks[1:].min()) == 1
    assert titles_of(split)
    assert "ends with" in steps.caption()
    assert "ends with" not in caption


def test_a_system_without_codes_is_refused(run, split):
    with pytest.raises(ValueError, match="generates codes, which sasrec is not; choose one such as"):
        widgets.BeamSteps(run, split)


def test_titles_stay_text(steps):
    for item in range(1, 11):
        steps.pick(item)
        assert not TAGS.search(steps.message.value)
    for _, user in steps.user.options[:2]:
        steps.user.value = user
        assert_escaped(steps)
