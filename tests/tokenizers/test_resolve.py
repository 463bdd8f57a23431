"""Items with equal tuples: numbered, moved, or left; with a note."""

import numpy as np
import pytest

from seqlab.tokenizers.resolve import resolve

CODES = np.array([[0, 1], [0, 1], [2, 0], [0, 1], [2, 0], [1, 1]])
SIZES = (3, 4)


def unique(codes):
    return len(np.unique(codes, axis=0)) == len(codes)


def test_an_index_makes_tuples_unique_and_keeps_their_content():
    codes, sizes, note = resolve(CODES, SIZES, "index")
    assert unique(codes) and sizes == (3, 4, 3)
    assert np.array_equal(codes[:, :2], CODES) and sorted(codes[[0, 1, 3], 2]) == [0, 1, 2]
    assert "5 of 6 items" in note and "extra column of 3" in note


def test_the_index_does_not_follow_the_numbering_of_items():
    same = np.zeros((1000, 1), dtype=int)
    codes, _, _ = resolve(same, (1,), "index")
    assert abs(np.corrcoef(np.arange(1000), codes[:, 1])[0, 1]) < 0.1
    assert np.array_equal(codes, resolve(same, (1,), "index")[0])


def test_the_width_is_the_same_where_nothing_collides():
    codes, sizes, _ = resolve(CODES[[0, 2, 5]], SIZES, "index")
    assert sizes == (3, 4, 1) and codes[:, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("how", ["index", "popularity"])
def test_a_tuple_of_more_items_than_an_index_may_have_gives_some_to_its_nearest_neighbours(how):
    codes = np.array([[0, 1]] * 10 + [[0, 2]] * 3 + [[1, 1]] * 2)

    def decode(tuples):  # the nearest to code 1 is 2, then 0, then 3
        return np.array([0.0, 2.0, 3.0, 9.0])[tuples[:, 1:]]

    likes = np.arange(len(codes), 0, -1)
    found, sizes, note = resolve(codes, (2, 4), how, decode=decode, popularity=likes, most=4)
    assert sizes == (2, 4, 4) and len({*map(tuple, found.tolist())}) == len(codes)
    assert (found[:, 0] == codes[:, 0]).all() and (found[10:, :2] == codes[10:]).all()
    assert np.bincount(found[:10, 1], minlength=4).tolist() == [4, 4, 1, 1]  # 2 had room for one, 0 for four
    assert "6 beyond 4 items of a tuple moved" in note
    if how == "popularity":
        assert (found[:4, 1] == 1).all()
    same, _, note = resolve(codes, (2, 4), how, popularity=likes, most=10)
    assert (same == resolve(codes, (2, 4), how, popularity=likes)[0]).all() and "moved" not in note


def test_by_popularity_the_most_popular_item_of_a_tuple_comes_first():
    codes, _, _ = resolve(CODES, SIZES, "popularity", popularity=np.array([3, 9, 1, 5, 2, 0]))
    assert codes[:, 2].tolist() == [2, 0, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="one training count per item"):
        resolve(CODES, SIZES, "popularity", popularity=np.ones(5))


def words(codes):
    """Codes as points on a line: 10 per first code, 1 per second."""
    return (codes @ np.array([10.0, 1.0]))[:, None]


def test_reassignment_moves_all_but_the_nearest_to_the_nearest_free_codes():
    vectors = np.array([[1.9], [1.1], [20.0], [0.4], [20.6], [11.0]])
    codes, sizes, note = resolve(CODES, SIZES, "reassign", vectors=vectors, decode=words)
    assert codes[:, 1].tolist() == [2, 1, 0, 0, 1, 1] and np.array_equal(codes[:, 0], CODES[:, 0])
    assert sizes == SIZES and "now 0 do" in note
    assert CODES[0].tolist() == [0, 1]  # the argument is left alone


def test_a_full_prefix_keeps_its_collisions_with_a_note():
    codes = np.zeros((5, 2), dtype=int)
    moved, _, note = resolve(codes, (1, 4), "reassign", vectors=np.zeros((5, 1)), decode=words)
    assert len(np.unique(moved[:, 1])) == 4
    assert "now 2 do" in note


def test_without_a_rule_collisions_are_counted():
    codes, sizes, note = resolve(CODES, SIZES, "none")
    assert np.array_equal(codes, CODES) and sizes == SIZES and "5 of 6" in note


def test_missing_inputs_and_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="index, reassign, popularity, none"):
        resolve(CODES, SIZES, "drop")
    with pytest.raises(ValueError, match="needs the vectors"):
        resolve(CODES, SIZES, "reassign")
