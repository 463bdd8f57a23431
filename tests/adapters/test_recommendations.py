"""Tables of recommendations: measured as the systems that made them, as brute force and as ranx do, or refused."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import datasets, evaluation, models, tasks
from seqlab.adapters.recommendations import read_recommendations
from seqlab.datasets.log import make_log
from seqlab.runtime.text import DataError
from seqlab.training.fit import prepare
from tests.synthetic import chain_log, log_of, random_log

torch.set_num_threads(1)

RANX = {  # ranx 0.3.21 on the lists of `lists_without_ties` and the answers of `with_answers`
    1: {
        "recall@1": 0.05, "ndcg@1": 0.05, "mrr@1": 0.05, "recall@5": 0.175, "ndcg@5": 0.12231973151785931,
        "mrr@5": 0.10416666666666666, "recall@10": 0.225, "ndcg@10": 0.13809297535714576,
        "mrr@10": 0.11041666666666665, "recall@20": 0.575, "ndcg@20": 0.2254860167205787, "mrr@20": 0.1338396417179312,
    },
    3: {
        "recall@5": 0.1333333333333333, "ndcg@5": 0.12792177416545597, "precision@5": 0.05500000000000001,
        "hit@5": 0.225, "recall@10": 0.32916666666666666, "ndcg@10": 0.20267260337416823, "precision@10": 0.0675,
        "hit@10": 0.475, "recall@20": 0.5583333333333333, "ndcg@20": 0.27189948424915916, "precision@20": 0.05625,
        "hit@20": 0.725, "mrr": 0.21158522946351893,
    },
}  # fmt: skip


def lists_without_ties():
    rows = [(f"u{user}", f"i{(7 * user + 11 * at) % 31:02}", 1 / (1 + at)) for user in range(40) for at in range(20)]
    return pd.DataFrame(rows, columns=["user", "item", "score"])


def with_answers(most):
    """A split of 40 users whose last basket has 1 to `most` answers; of 1: the last event is the only answer."""
    rows = []
    for user in range(40):
        shift = 5 if most == 1 else 0
        answers = {(3 * user * user + 5 * one * (one + 1) + one + shift) % 31 for one in range(1 + user % most)}
        baskets = [[user % 31], [(user + 1) % 31], [(user + 2) % 31], sorted(answers)]
        rows += [(f"u{user}", f"i{item:02}", float(day), day) for day, basket in enumerate(baskets) for item in basket]
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp", "basket"])
    log = make_log(events, repeats=True)
    return datasets.split(log, "leave-one-out" if most == 1 else "last-basket")


@pytest.mark.parametrize("answers", [1, 3])
def test_metrics_are_those_of_ranx(answers, tmp_path):
    split, lists = with_answers(answers), lists_without_ties()
    lists.sample(frac=1, random_state=0).to_csv(tmp_path / "theirs.csv", index=False)
    read = read_recommendations(tmp_path / "theirs.csv", split)
    assert read.name == "theirs" and len(read.notes) == 3  # the guessed columns
    means = read.outcome(split).means()
    assert {name: means[name] for name in RANX[answers]} == pytest.approx(RANX[answers], abs=1e-9)
    ranks = lists.assign(rank=lists.groupby("user").cumcount()).drop(columns="score")
    ranks.to_parquet(tmp_path / "theirs.parquet")
    assert read_recommendations(tmp_path / "theirs.parquet", split).outcome(split).means() == means


def exported(model, split, k):
    """The k best items of every test query, as a table with the ids of the log."""
    batch = split.test.batch(torch.arange(len(split.test)), model.config.max_length)
    ranking = model.recommend(batch, k)
    frame = pd.DataFrame({
        "user": np.repeat(batch.user.numpy(), ranking.items.shape[1]), "item": ranking.items.flatten().numpy(),
        "score": ranking.scores.detach().flatten().numpy(),
    })  # fmt: skip
    frame = frame[frame["item"] > 0]
    ids = {"user": split.log.users["user_id"], "item": split.log.items["item_id"]}
    return frame.assign(**{column: ids[column].loc[frame[column]].to_numpy() for column in ids})


def made(split, name="sasrec"):
    torch.manual_seed(0)
    model = models.create(name, split, {"dim": 8, "layers": 1, "max_length": 6} if name == "sasrec" else {})
    prepare(model, split)
    return model.eval()


@pytest.mark.parametrize(("name", "length"), [("sasrec", 20), ("markov", 30)])  # counts tie: the list is the catalogue
def test_exported_lists_have_the_metrics_of_their_system(name, length):
    split = datasets.leave_one_out(chain_log(items=30, users=60))
    model = made(split, name)
    own = tasks.measure(model, split)
    found = read_recommendations(exported(model, split, length), split).outcome(split)
    pd.testing.assert_frame_equal(found.values(), own.values())
    if name == "sasrec":  # items that tie have no order
        assert dict(found.summary) == pytest.approx(dict(own.summary))
    slices = ["history_length", "seen", "item_count", "query", "user", "item"]
    pd.testing.assert_frame_equal(found.frame[slices], own.frame[slices])
    assert (evaluation.compare(own, found)["difference"] == 0).all()
    assert f"lists of {length} items, and an answer that is not in its list counts as not found" in found.protocol


@pytest.mark.parametrize("split_name", ["leave-one-out", "last-basket", "basket-completion"])
def test_the_seen_filter_closes_up_the_lists_as_in_the_own_ranking(split_name):
    log = random_log(2, repeats=True)
    log = make_log(log.events.assign(basket=log.events["timestamp"] // 2), repeats=True)
    split = datasets.split(log, split_name)
    model = made(split, "popularity" if "basket" in split_name else "markov")
    read = read_recommendations(exported(model, split, split.n_items), split)
    for seen_filter in (False, True):
        own, found = tasks.measure(model, split, "test", seen_filter), read.outcome(split, seen_filter)
        shared = [one.name for one in found.metrics]
        pd.testing.assert_frame_equal(found.values(shared), own.values(shared))
        assert found.seen_filter is seen_filter
        assert found.task == own.task and dict(found.about) == dict(own.about)
    assert "items of histories were removed, lists of" in found.protocol


@pytest.mark.parametrize("seed", range(4))
def test_ranks_by_brute_force(seed):
    """Ties, copies, unknown items and users, short and missing lists, with the seen filter and without."""
    random, split = np.random.default_rng(seed), datasets.leave_one_out(random_log(seed, repeats=True))
    rows = [
        (user, int(random.integers(1, 13)), int(random.integers(4)))  # items 10 to 12 are unknown
        for user in random.permutation(14)[:9] + 1
        for _ in range(random.integers(1, 12))
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "score"])
    read = read_recommendations(frame, split)
    for seen_filter in (False, True):
        found = read.outcome(split, seen_filter).frame.set_index("user")["rank"]
        columns = [getattr(split.test, one).tolist() for one in ("user", "item", "start", "end")]
        for user, item, start, end in zip(*columns, strict=True):
            best = frame[frame["user"] == user].groupby("item")["score"].max()
            seen = {*split.test.sequences.items[start:end].tolist()} if seen_filter else set()
            best = best[[one == item or one not in seen for one in best.index]]
            rank = math.inf
            if item in best.index:
                rank = 1 + (best > best[item]).sum() + ((best == best[item]).sum() - 1) / 2
            assert found[user] == rank


SPLIT = datasets.leave_one_out(log_of([[1, 2, 3, 4], [5, 4, 5, 2], [3, 1, 2, 5, 1]], repeats=True))
GOOD = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [4, 5, 1, 2, 1], "score": [0.9, 0.8, 0.7, 0.6, 0.5]})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (GOOD.assign(score=[0.9, np.nan, 0.7, 0.6, 0.5]), r"column 'score' has no number in row 1 .*drop these rows"),
        (GOOD.assign(score=["0.9", "0,8", "x", "1", "2"]), r"column 'score' has no number in rows 1, 2"),
        (GOOD.assign(score=[0.9, -np.inf, 0.7, 0.6, 0.5]), r"has no number in row 1"),
        (GOOD.assign(rank=[2, 1, 1, 2, 1]), r"rank and score disagree for 1 user \(1\): .*rank=... or score=..."),
        (GOOD.drop(columns="score"), r"no column looks like a rank or a score.*other columns are: none"),
        (GOOD.drop(columns="user"), r"no column looks like the user"),
        (GOOD.assign(user=[1, None, 2, 2, 3]), r"column 'user' has no id in 1 of 5 rows"),
        (GOOD.assign(user=["a", "b", "c", "d", "e"]), r"the log has none of the 5 users \(a, b, c and 2 more\); its "
         r"users are called 1, 2, 3\. Write the ids as in the log"),
        (GOOD.assign(item=GOOD["item"] + 10), r"the log has none of the 4 items"),
        (GOOD[:0], r"there are no rows"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_in_a_sentence(frame, message):
    with pytest.raises(DataError, match=message) as refused:
        read_recommendations(frame, SPLIT)
    assert "\n" not in str(refused.value)


def test_what_is_odd_is_counted_and_named():
    rows = [(1, 4, 0.9), (1, 4, 0.2), (1, 77, 0.8), (2, 1, 0.5), (2, 2, 0.5), (99, 1, 0.3)]
    read = read_recommendations(pd.DataFrame(rows, columns=["user", "item", "score"]), SPLIT)
    notes = "\n".join(read.notes)
    for sentence in (
        "column 'user': the log does not have 1 user (99), left out.",
        "column 'item': the log does not have 1 item (77), kept in their places, but no answer.",
        "1 row recommends an item that is in the list already, to 1 user (1); the best place of each is kept.",
        "2 items tie with others of their list, for 1 user; items that tie share their mean rank.",
        "of 3 users with a test query, 1 has no list, which counts as not found: 3.",
        "of 3 users with a test query, 2 have a list of fewer than 5 items, so that metrics at 10 "
        "may be too low: 1, 2.",
    ):
        assert sentence in notes
    outcome = read.outcome(SPLIT)
    assert outcome.frame["rank"].tolist() == [1.0, 1.5, math.inf]
    assert outcome.means()["recall@10"] == pytest.approx(2 / 3)
    assert "recall@20" not in outcome.means()  # no list is that long
    assert "lists of 2 items and none for 1 query, and an answer that is not in its list" in outcome.protocol
    assert read.top(SPLIT, 3).tolist() == [[4, 0, 0], [1, 2, 0], [0, 0, 0]]


def test_rows_without_a_number_are_dropped_and_counted_where_that_is_chosen():
    frame = GOOD.assign(score=[0.9, np.nan, 0.7, 0.6, 0.5])
    read = read_recommendations(frame, SPLIT, bad="drop")
    assert len(read.table) == 4
    assert any("1 rows have no score (column 'score') and are dropped" in note for note in read.notes)


def test_one_column_alone_is_used_where_it_is_named():
    frame = GOOD.assign(rank=[2, 1, 1, 2, 1], points=[1, 2, 3, 4, 5])
    by_rank = read_recommendations(frame, SPLIT, rank="rank").table
    assert by_rank["item"].tolist() == [5, 4, 1, 2, 1] and by_rank["score"].isna().all()
    by_score = read_recommendations(frame, SPLIT, score="points").table
    assert by_score["item"].tolist() == [5, 4, 2, 1, 1]


def test_a_file_without_a_header_has_columns_by_number(tmp_path):
    GOOD.to_csv(tmp_path / "lists.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"no header .*user=0, item=1, score=2 .*; the first row is 0: '1', 1: '4'"):
        read_recommendations(tmp_path / "lists.csv", SPLIT)
    read = read_recommendations(tmp_path / "lists.csv", SPLIT, user=0, item=1, score=2)
    pd.testing.assert_frame_equal(read.table, read_recommendations(GOOD, SPLIT).table)


def test_other_logs_and_tasks_are_refused():
    read = read_recommendations(GOOD, SPLIT)
    with pytest.raises(DataError, match="read for another log than synthetic; read the recommendations again"):
        read.outcome(datasets.leave_one_out(log_of([[1, 2, 3, 4, 6], [5, 4, 5, 2]])))
    with pytest.raises(DataError, match=r"lists of items cannot be measured on .* whose queries are for slates"):
        read.outcome(replace(SPLIT, task="slates"))
