import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError, load, read
from seqlab.datasets.log import make_log
from seqlab.datasets.roles import encode
from tests.datasets.test_log import BASKETS

LONG = 2**53 + 1
COLUMNS = {
    "whole numbers": ([3, 1, 2], [3.0, 1, 2], None),
    "numbers with a gap": ([0.5, None, 2], [0.5, np.nan, 2], None),
    "numbers with a gap, as pandas has them": (pd.array([3, None, 2], dtype="Int64"), [3, np.nan, 2], None),
    "numbers as text": (["5", "", "2.5"], [5, np.nan, 2.5], None),
    "categorical numbers": (pd.Categorical([7, 5, 7]), [7, 5, 7], None),
    "nothing": ([None, None, None], [0, 0, 0], ()),
    "words": (["b", None, "a"], [2, 0, 1], ("a", "b")),
    "words that could be missing values": (["none", "-", ""], [2, 1, 0], ("-", "none")),
    "codes": (["007", "7", "007"], [1, 2, 1], ("007", "7")),
    "truth": ([True, False, True], [2, 1, 2], ("False", "True")),
    "numbers that float64 cannot hold": ([LONG, LONG - 1, LONG], [2, 1, 2], (str(LONG - 1), str(LONG))),
    "long numbers as text": ([str(LONG), "9", ""], [2, 1, 0], ("9", str(LONG))),
}


@pytest.mark.parametrize(("values", "expected", "categories"), COLUMNS.values(), ids=COLUMNS)
def test_a_column_is_numbers_or_codes_of_sorted_categories(values, expected, categories):
    got, names = encode(pd.Series(values))
    assert names == categories and got.dtype == (np.float64 if names is None else np.int64)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("values", [[12, 3, 12], [12.0, 3, 12], ["12", "3", "12"], pd.Categorical([12, 3, 12])])
def test_a_role_of_categories_has_codes_even_for_numbers_in_the_order_of_their_values(values):
    log = make_log(BASKETS.iloc[[0, 2, 4]].assign(trip=values), roles={"basket": "trip"})
    for name in ("basket", "trip"):  # the three events are bo's, of which the second is the earliest
        codes, names = log.column(name)
        assert codes.tolist() == [1, 2, 2] and codes.dtype == np.int64 and names == ("3", "12")
    assert log.column_name("basket") == "trip" and log.roles == {"basket": "trip"}


def test_every_whole_number_of_a_basket_stays_its_own():
    ids = [LONG - 1, LONG, LONG + 1, LONG, LONG - 1]
    codes, names = make_log(BASKETS.assign(basket=ids)).column("basket")  # called like its role: no entry needed
    assert dict(zip(range(1, 4), names, strict=True)) == {1: str(LONG - 1), 2: str(LONG), 3: str(LONG + 1)}
    assert codes.max() == 3


def test_a_file_of_ones_own_declares_roles_and_is_read_again_with_them(tmp_path):
    path = tmp_path / "log.csv"
    BASKETS.assign(order_no=[1, 2, 1, 2, 1], paid=["1.5", "", "2", "2", "1"]).to_csv(path, index=False)
    log = load(path, columns={"basket": "order_no", "price": "paid"})
    assert log.roles == {"basket": "order_no", "price": "paid"} and log.origin["columns"] == log.roles
    np.testing.assert_array_equal(log.column("price")[0], [np.nan, 2, 2, 1.5, 1])  # al's two, then bo's by time
    from seqlab.datasets import reload

    assert reload(log.origin).fingerprint(3) == log.fingerprint(3) != load(path).fingerprint(3)
    assert load(path).fingerprint() == log.fingerprint()
    path.write_text("1::7::5::100\n1::8::4::101\n2::7::3::102\n")
    assert read(path, 0, 1, 3, sep="::", columns={"rating": 2}).column("rating")[0].tolist() == [5, 4, 3]
    with pytest.raises(DataError, match=r"there is no column 'orders'.*Did you mean"):
        read(BASKETS.assign(order=1), columns={"basket": "orders"})
    with pytest.raises(ValueError, match=r"there is no role 'baskets'. Did you mean 'basket'"):
        read(BASKETS, columns={"baskets": "item"})
    with pytest.raises(ValueError, match="ml-1m is a named dataset, which does not take columns="):
        load("ml-1m", columns={"basket": "x"})


def test_a_title_or_an_item_may_have_a_role_too():
    log = make_log(BASKETS.assign(words="of a title"), title="words", roles={"action": "words", "domain": "item"})
    assert log.column("action")[1] == ("of a title",) and log.column_name("domain") == "item"


def test_the_error_of_a_missing_column_names_it_the_log_what_is_there_and_the_remedy():
    log = make_log(BASKETS.assign(trip=[1, 2, 1, 2, 1]), roles={"basket": "trip"}, name="shop")
    with pytest.raises(DataError, match=r"^shop: the events have no column 'price'\. Its further columns: 'trip' "
                       r"\(basket\)\. Declare it .*columns=\{'price': .*--column price="):  # fmt: skip
        log.column("price")
    with pytest.raises(DataError, match=r"no column 'tripp'. Did you mean 'trip'"):
        log.column_name("tripp")
    with pytest.raises(DataError, match=r"no column 'title'. It is a column of the items."):
        log.column("title")
    with pytest.raises(DataError, match=r"shop: the users have no column 'age'. They have no columns but their ids."):
        log.user_column("age")


def test_a_folder_may_have_a_table_of_users(tmp_path):
    (tmp_path / "interactions.tsv").write_text(
        "user_id\titem_id\ttimestamp\tcart\n7\tx\t9\t1\n7\ty\t4\t1\n8\tx\t1\t2\n"
    )
    plain = load(tmp_path)
    (tmp_path / "users.tsv").write_text("user_id\tage\tcity\n8\t31\tBonn\n9\t50\tUlm\n")
    log = load(tmp_path, columns={"basket": "cart"})
    assert log.users.to_dict("list") == {"user_id": [7, 8], "age": ["", "31"], "city": ["", "Bonn"]}
    np.testing.assert_array_equal(log.user_column("age")[0], [np.nan, 31])
    assert log.user_column("city")[1] == ("Bonn",) and log.column("basket")[0].tolist() == [1, 1, 2]
    assert log.fingerprint() == plain.fingerprint() and log.fingerprint(3) != plain.fingerprint(3)
    assert {"users.tsv: 1 users have no row; their columns are missing.",
            "users.tsv: 1 rows of users without events are left out."} <= set(log.notes)  # fmt: skip
    facts = log.summary().set_index("fact")["value"]
    assert facts["event columns"] == "cart (basket)" and facts["user columns"] == "age, city"
    (tmp_path / "users.tsv").write_text("user_id\tage\n8\t31\n8\t32\n")
    with pytest.raises(DataError, match=r"users\.tsv: column 'user_id' contains 1 users more than once: rows 2, 3"):
        load(tmp_path)
