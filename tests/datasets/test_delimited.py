import pytest

from seqlab.datasets import DataError, read
from tests.datasets.test_reading import write


def rows(first: int, last: int, title: str = "mug") -> str:
    return "".join(f"u{n % 4},{n},{1_500_000_000 + n},{title}\n" for n in range(first, last))


HEAD = "user,item,time,title\n"
UNCLOSED = {
    "some rows on": (HEAD + rows(0, 5) + 'u1,90,1500000090,"6 inch\n' + rows(5, 9) + 'u1,91,1500000091,x"\n', 7, 12),
    "in the next row": (HEAD + rows(0, 5) + 'u1,90,1500000090,"6 inch\nu1,91,1500000091,5 inch"\n' + rows(5, 9), 7, 8),
    "within a later field": (HEAD + rows(0, 5) + 'u1,90,1500000090,"6\n' + rows(5, 9) + 'u1,91,15,a "b"\n', 7, 12),
    "title before the ids": (
        'title,user,item,time\na,u1,1,1500000000\n"6,u1,2,1500000001\nb,u2,1,1500000002\n4",u2,3,1500000003\n', 3, 5,
    ),
    "dates and ids of words": (
        "user,item,when,title\nann,tea,2020-01-01,a\nann,rye,2020-01-02,b\n"
        'bob,tea,2020-01-01,"6\nbob,rye,2020-01-02,c\nbob,oil,2020-01-03,7"\n', 4, 6,
    ),
    "no other row": ('user,item,time,title\nu1,1,1500000000,"6\nu1,2,1500000001,x\nu2,3,1500000002,7"\n', 2, 4),
    "then another, never closed": (
        HEAD + rows(0, 5) + 'u1,90,1500000090,"6\n' + rows(5, 7) + 'u1,91,1500000091,x"\nu1,92,1500000092,"y\n', 7, 10,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "first", "last"), UNCLOSED.values(), ids=UNCLOSED)
def test_an_unclosed_quote_raises_with_its_line(tmp_path, content, first, last):
    with pytest.raises(DataError, match=rf"log\.csv: a quote that opens in line {first} .*only in line {last}, "):
        read(write(tmp_path / "log.csv", content))


def test_a_quote_that_never_closes_raises_with_its_line(tmp_path):
    content = HEAD + 'u1,7,1500000007,"two\nlines"\n' + rows(0, 5) + 'u1,90,1500000090,"6 inch\n' + rows(5, 9)
    with pytest.raises(DataError, match="a quote that opens in line 9 is never closed"):
        read(write(tmp_path / "log.csv", content))


@pytest.mark.parametrize(
    "title", ["two\nlines", "with, commas\nhere, there, and, everywhere", "a\nb, c, d, e\n\nf", 'a ""\n""b']
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_titles_of_several_lines_are_read_and_rows_are_counted_in_lines(tmp_path, title, newline):
    content = HEAD + rows(0, 5) + f'u1,90,1500000090,"{title}"\n' + rows(5, 9)
    log = read(write(tmp_path / "log.csv", content.replace("\n", newline)))
    assert log.n_events == 10
    assert title.replace('""', '"').replace("\n", newline) in log.items["title"].tolist()
    with pytest.raises(DataError, match=rf"row {12 + title.count(chr(10))}\."):
        read(write(tmp_path / "bad.csv", content + ",91,1500000091,x\n"))


def test_an_unclosed_quote_in_the_item_table_raises(tmp_path):
    items = write(tmp_path / "items.csv", 'item,title,price\n1,a,2\n2,"6 inch,3\n3,b,4\n4,5 inch",6\n5,c,7\n')
    with pytest.raises(DataError, match=r"items\.csv: a quote that opens in line 3 .*line 5"):
        read(write(tmp_path / "log.csv", HEAD + rows(0, 5)), items=items)


def test_blank_lines_are_counted(tmp_path):
    log = read(write(tmp_path / "a.csv", "user,item,time\n1,2,3\n\n1,3,4\n\n"))
    assert any("2 blank lines are skipped" in note for note in log.notes)
