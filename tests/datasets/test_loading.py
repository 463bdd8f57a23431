import gzip
import hashlib
import http.server
import json
import threading
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from seqlab import models, presets
from seqlab.datasets import DataError, card, k_core, leave_one_out, load, read, reload
from seqlab.datasets.loading import _fetch, _from_official, _with_card_counts
from seqlab.items import vectors
from tests.datasets.test_named import BENCHMARKS

FINGERPRINTS = {  # versions 1 (users, items and times) and 2 (the leaderboard's): numbering and order must not change
    "amazon-beauty": ("a0f9b98222e2ecd83e1b7ea2216852d938b241afe4dbae9f43daf24fb8cce5bd",
                      "8cb8206ba7b9f1ec077e785710d2e9f925de3e7c599f18548a24c8a78c32875f"),
    "amazon-sports": ("212f2a2cdd08f112ec852cc4425bf70965b029b70ad4f8dd170911c17ecfbb64",
                      "5d9261139d375e1a4609cb604addb1f68c4bdc8509de1b7659b0f4129121eb0b"),
    "amazon2018-games": ("2092fa6657ab98d14ae7a9d83c9ed0a9374cfb889074d6276bd124475856f567",
                         "eb0e148692cf2bea9a6922c3693972c6c3252ae610372b0fcf6d6ea4fec65bc0"),
    "ml-100k": ("f75f8b9a97b8db53eb5d7ba50ad9f5ecb60bed6f5c26c96dfbf8efbd17ab5afb",
                "4c9c9798a51872d0221797d17fc62c84a80583fef18d204596f5a9b03abee9f2"),
    "ml-1m": ("8ae6911e1751fdf3d41c2ce985c612559ccb2601d152f2c310b826a03da62e78",
              "3660cecc2ec967637cc37ca0bf88b0552e8b8ff3e7d8468d81d6cfd45e8a1fbf"),
}  # fmt: skip


def tiny_ml_1m(path: Path) -> str:
    """An archive in the official format: 6 users rate movies 1-6, one also 7 (too rare). Its checksum."""
    rows = [(user, item, 5, 100 - item) for user in range(1, 7) for item in range(1, 7)] + [(1, 7, 5, 1)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "".join("::".join(map(str, row)) + "\n" for row in rows))
        archive.writestr("ml-1m/movies.dat", "".join(f"{item}::Movie {item} (1999)::Drama\n" for item in range(1, 9)))
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def shop(tmp_path):
    """A web server on this machine that offers ml-1m.zip: (address, a card with its checksum)."""
    (tmp_path / "web").mkdir()
    checksum = tiny_ml_1m(tmp_path / "web" / "ml-1m.zip")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = card("ml-1m")
    yield (
        f"http://127.0.0.1:{server.server_port}",
        replace(one, users=6, items=6, events=36, official=(replace(one.official[0], checksum=checksum),)),
    )
    server.shutdown()
    server.server_close()


def test_an_official_file_is_downloaded_checked_and_read(alone, shop):
    address, one = shop
    paths = _fetch(one, base_url=address)
    assert paths == [alone / "ml-1m" / "ml-1m.zip"]
    log = _with_card_counts(_from_official(one, paths), one)
    assert log.items["title"].tolist() == [f"Movie {item}" for item in range(1, 7)]
    assert log.events["item"].tolist() == [6, 5, 4, 3, 2, 1] * 6  # oldest first
    assert any("k-core" in note for note in log.notes)
    assert _fetch(one, base_url="http://127.0.0.1:1") == paths  # the second time nothing is fetched


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(alone, shop):
    address, one = shop
    wrong = replace(one, official=(replace(one.official[0], checksum="md5:" + "0" * 32),))
    with pytest.raises(DataError, match=r"not the file of the card.*by hand"):
        _fetch(wrong, base_url=address)
    assert not [path for path in alone.rglob("*") if path.is_file()]


def test_the_error_of_an_unreachable_server_names_the_folder_for_the_file(alone, shop):
    with pytest.raises(DataError, match=r"could not be downloaded.*by hand to .*ml-1m\.zip.*SEQLAB_DATA"):
        _fetch(shop[1], base_url="http://127.0.0.1:1")


def test_an_unpinned_file_is_never_downloaded(alone, shop):
    address, one = shop
    unpinned = replace(one, official=(replace(one.official[0], checksum=""),))
    with pytest.raises(DataError, match=r"without which seqlab downloads nothing.*by hand to"):
        _fetch(unpinned, base_url=address)
    with pytest.raises(DataError, match=r"reviews_Beauty_5\.json\.gz is not on this machine"):
        load("amazon-beauty")


def test_a_file_put_there_by_hand_is_used_if_it_is_the_right_one(monkeypatch, tmp_path, alone):
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path))
    (tmp_path / "ml-1m").mkdir()
    checksum = tiny_ml_1m(tmp_path / "ml-1m" / "ml-1m.zip")
    with pytest.raises(DataError, match=r"checksum is not md5:c4d9.*Delete it and download it again"):
        load("ml-1m")
    one = card("ml-1m")
    right = replace(one, official=(replace(one.official[0], checksum=checksum),))
    assert _fetch(right) == [tmp_path / "ml-1m" / "ml-1m.zip"]
    with pytest.raises(DataError, match="6 users instead of 6,040"):
        _with_card_counts(_from_official(right, _fetch(right)), right)


def test_a_prepared_folder_with_other_counts_is_refused(monkeypatch, tmp_path, alone):
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path))
    for name in ("ml-100k", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "interactions.tsv.gz").write_bytes(
            gzip.compress(b"user_id\titem_id\ttimestamp\n1\t2\t9\n1\t1\t4\n")
        )
    with pytest.raises(DataError, match="ml-100k: this is not the dataset of its card: 1 users instead of 943"):
        load("ml-100k")
    assert load("mine").events["item"].tolist() == [1, 2]  # a folder of yours has no card to be held against


@pytest.mark.parametrize("name", ["ml-10m", "amazon-beuty", "", "../ml-1m", "nothing.csv", "a\0b"])
def test_an_unknown_name_is_a_data_error(alone, name):
    with pytest.raises(DataError, match="ml-1m" if name == "ml-10m" else None):
        load(name)


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_benchmark_has_its_published_counts_and_keeps_the_order_of_its_file(name, data_folder):
    if not (data_folder / name).is_dir():
        pytest.skip(f"{name} is not in SEQLAB_DATA")
    log = load(name)
    assert (log.fingerprint(1), log.fingerprint(2)) == FINGERPRINTS[name] and card(name).order == "source"
    assert (log.card, log.origin, log.ties) == (name, {"dataset": name}, card(name).ties)
    if log.ties == "source":
        assert len(leave_one_out(log).test) == log.n_users
    if name == "ml-100k":
        assert log.column("rating")[0].mean() == pytest.approx(3.52986) and log.column("rating")[1] is None
        assert list(log.users) == ["user_id", "age", "gender", "occupation"]
        assert log.user_column("age")[0].min() == 7 and log.user_column("gender")[1] == ("F", "M")
    if name in BENCHMARKS:
        assert (log.n_users, log.n_items, log.n_events) == BENCHMARKS[name]


ROWS = "kunde;artikel;wann;wort\na;x;3;Ex\na;y;1;Why\nb;x;2;Ex\nb;z;5;Zed\n"


def own_file(folder: Path, name: str = "log.csv") -> Path:
    (folder / name).write_text(ROWS)
    (folder / "items.csv").write_text("artikel;name\nx;Xylophone\n")
    return folder / name


def test_load_takes_the_columns_of_a_file_and_the_log_can_be_read_again_from_anywhere(monkeypatch, tmp_path):
    own_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    how = {"user": "kunde", "item": "artikel", "time": "wann", "sep": ";", "items": "items.csv", "title": "name"}
    log = load("log.csv", **how, order="source", ties="shuffle", repeats=True)
    assert log.events["timestamp"].tolist() == [3, 1, 2, 5] and (log.ties, log.repeats) == ("shuffle", True)
    assert log.items["title"].tolist() == ["Xylophone", "y", "z"] and log.card == ""
    plain = read("log.csv", "kunde", "artikel", "wann", title="wort", name="shop", sep=";")
    monkeypatch.chdir("/")
    for one in (log, plain):
        again = reload(json.loads(json.dumps(one.origin)))
        assert (again.fingerprint(), again.name, again.notes) == (one.fingerprint(), one.name, one.notes)
    assert log.origin["path"] == str(tmp_path / "log.csv") and log.origin["items"] == str(tmp_path / "items.csv")
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 1], "time": [1, 2, 3]})
    assert read(frame).origin is None
    assert load(tmp_path / "log.csv", **how | {"items": pd.DataFrame({"artikel": ["x"], "name": ["X"]})}).origin is None


def test_a_folder_is_read_again_in_the_order_it_was_read(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "interactions.tsv").write_text("user_id\titem_id\ttimestamp\n1\t2\t9\n1\t1\t4\n")
    logs = [load(tmp_path / "mine"), load(tmp_path / "mine", order="source", repeats=True)]
    assert [log.events["item"].tolist() for log in logs] == [[1, 2], [2, 1]]
    assert [reload(log.origin).fingerprint() for log in logs] == [log.fingerprint() for log in logs]


@pytest.mark.parametrize(
    "origin", [None, {}, {"path": 3}, {"path": "a.csv", "source": "b.csv"}, {"dataset": "x", "a": 1}]
)
def test_an_invalid_origin_raises(origin):
    with pytest.raises(ValueError, match="is not the origin of a log"):
        reload(origin)


def test_arguments_that_a_dataset_or_a_folder_does_not_take_are_named(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"ml-1m is a named dataset, which does not take sep=, order=. Pass the path"):
        load("ml-1m", order="time", sep=";")
    with pytest.raises(ValueError, match=r"is a folder, .* does not take user=. Pass the path"):
        load(tmp_path / "mine", user="kunde", order="time")


def test_a_file_called_like_a_dataset_inherits_nothing_of_its_card(tmp_path):
    rows = [(user, item, "words of them") for user in range(6) for item in range(5)]
    frame = pd.DataFrame(rows, columns=["user", "item", "short_text"]).assign(time=range(len(rows)))
    items = frame[["item", "short_text"]].drop_duplicates()
    for name, system in (("ml-1m", "sasrec"), ("amazon-beauty", "sasrec")):
        frame[["user", "item", "time"]].to_csv(tmp_path / f"{name}.csv", index=False)
        items.to_csv(tmp_path / "items.csv", index=False)
        log = load(tmp_path / f"{name}.csv", items=tmp_path / "items.csv")
        split = leave_one_out(log)
        assert (log.name, log.card) == (name, "")
        model = models.create(system, split)
        assert model.config == models.build(system, split.n_items).config
        usual = presets.default_options(model, split)
        assert vectors.coverage(log).loc["short_text", "read"]
        same = replace(split, log=replace(log, card=name))
        assert presets.default_options(model, same) != usual
        assert models.create(system, same).config != model.config
    assert not vectors.coverage(same.log).loc["short_text", "read"]
    assert k_core(same.log, 2, 2).card == "amazon-beauty"
