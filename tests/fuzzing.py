"""Coverage-guided fuzzing of all that reads what strangers wrote: python tests/fuzzing.py READER FOLDER [options].

FOLDER gets a few good inputs at first, later all inputs that led anywhere new; options are libFuzzer's, such as
-max_total_time=600. A reader may refuse an input with the error that it documents. Any other error, and a hang (beyond
-timeout=10 seconds), ends the fuzzing with the input in FOLDER/crash-...; with that file in place of FOLDER it is
tried once more.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog

Reader = Callable[[bytes], None]

CSV = b"user,item,time,title\nu1,7,2020-01-01,A\nu2,8,2020-01-02,B\nu1,8,1577923200,B\n"
CARD = (
    b"file = 'log.csv'\nbad = 'drop'\nmerge_ids = true\nduplicates = 'drop'\n"
    b"[roles]\nuser = 'user'\n[keep]\ntitle = ['B']\n"
)
RATINGS = b"1::2::5::978300760\n2::3::4::978302109\n"
REVIEW = b'{"reviewerID": "a", "asin": "x", "unixReviewTime": 1, "overall": 5.0}\n'
TABLE = (
    b"dataset,split,system,seed,settings,options,seen_filter,ndcg@10\n"
    b'a,leave-one-out,sasrec,0,"{""dim"": 64}","{""epochs"": 3}",True,0.5\n'
)
LISTS = b"user,item,score\n1,4,0.9\n1,5,0.5\n2,2,0.5\n2,9,0.5\n7,1,3\n"
PIN = b'{"notebook": "07_workbench", "parameters": {"user": "A1"}, "runs": {"run": "0"}}'
ODD = (None, True, 0, -1, 1 << 63, 0.5, 1e308, float("nan"), "", "a", "..", "\0", "\ud800", [], {}, [[]], {"": 0})
DEEP = b"[" * 5000
LONG = b"9" * 5000
CELL = 'n = 1  # how many\nshare = 0.5\nnames = ["a"]\nwho: str | None = None\nyes = True\nmore = {"a": 1}'


def read_or_refused(path: Path) -> InteractionLog | None:
    """The log in a file; None where it is refused with a sentence."""
    from seqlab.datasets import DataError, read

    try:
        return read(path)
    except DataError as error:
        assert str(error)
        return None


def numbered_without_gaps(log: InteractionLog) -> bool:
    users, items = set(log.events["user"]), set(log.events["item"])
    return users == set(range(1, log.n_users + 1)) and items == set(range(1, log.n_items + 1))


def changed(document: bytes, data: bytes) -> bytes:
    """A JSON document of which some values are odd ones or gone, so that what is read stays JSON; data says which."""
    from atheris import FuzzedDataProvider

    parsed, chosen = json.loads(document), FuzzedDataProvider(data)
    for _ in range(chosen.ConsumeIntInRange(1, 3)):
        node = parsed
        while isinstance(node, dict | list) and node:
            key = chosen.PickValueInList(list(node) if isinstance(node, dict) else list(range(len(node))))
            if chosen.ConsumeBool() and isinstance(node[key], dict | list):
                node = node[key]
                continue
            if chosen.ConsumeBool():
                other = chosen.PickValueInList([*ODD, chosen.ConsumeUnicode(9), chosen.ConsumeInt(4)])
                node[key] = copy.deepcopy(other)
            else:
                del node[key]
            break
    return json.dumps(parsed).encode()


def events(folder: Path) -> Reader:
    """A log of events in one of the formats that `read` knows; the first byte says in which."""
    import seqlab.datasets.reading  # noqa: F401 (here it is instrumented)

    endings = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".dat")

    def reader(data: bytes) -> None:
        kind = data[0] if data else 0
        path = folder / f"log{endings[kind % len(endings)]}"
        packed = path.suffix == ".gz" and kind < 128
        path.write_bytes(gzip.compress(data[1:], 1) if packed else data[1:])
        log = read_or_refused(path)
        assert log is None or numbered_without_gaps(log)

    return reader


def cards(folder: Path) -> Reader:
    """The card of a log, or (the first byte is odd) a log that gets its first card by being examined."""
    from seqlab.datasets import load
    from seqlab.datasets.examining import examine
    from seqlab.datasets.log_card import card_text

    log, odd, card = folder / "log.csv", folder / "odd.csv", folder / "log.toml"
    log.write_bytes(CSV)

    def reader(data: bytes) -> None:
        try:
            if data and data[0] % 2:
                odd.write_bytes(data[1:])
                found = examine(odd)
                card.write_text(card_text(found.facts, found.comments), encoding="utf-8")
            else:
                card.write_bytes(data[1:])
            assert numbered_without_gaps(load(card))
        except ValueError as error:
            assert str(error)

    return reader


def official(folder: Path) -> Reader:
    """The official files of a benchmark: of which one, and whether they come packed, says the first byte."""
    from seqlab.datasets import DataError, formats

    readers = (formats.movielens_1m, formats.movielens_100k, formats.amazon_2014, formats.amazon_2018)
    path = folder / "official"

    def reader(data: bytes) -> None:
        kind, content = (data[0], data[1:]) if data else (0, data)
        if kind < 128 and kind % 4 < 2:
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as file:
                for name in ("ratings.dat", "movies.dat", "u.data", "u.item", "u.user"):
                    file.writestr(name, content)
            content = archive.getvalue()
        path.write_bytes(gzip.compress(content, 1) if kind < 128 and kind % 4 > 1 else content)
        try:
            readers[kind % 4]([path, path])
        except DataError as error:
            assert str(error)

    return reader


def typed(folder: Path) -> Reader:
    """A history that a person types or pastes in."""
    import pandas as pd

    from seqlab.datasets import DataError, read, typed_items

    titles = ["Tea, green", "Tea", "tea pot", "", "Ünïcode; 2", "a" * 80]
    log = read(pd.DataFrame({"user": 1, "item": range(10, 16), "time": range(6), "title": titles}))

    def reader(data: bytes) -> None:
        try:
            items = typed_items(log, data.decode(errors="replace"))
        except DataError as error:
            assert str(error)
            return
        assert items and all(1 <= item <= log.n_items for item in items)

    return reader


def parameters(folder: Path) -> Reader:
    """A notebook's cell of parameters, or (the first byte is odd) a value given to each of them."""
    from nbformat import v4

    from seqlab.reports.parameters import ParameterError, check, declared

    def notebook(source: str) -> v4.NotebookNode:
        cell = v4.new_code_cell(source)
        cell.metadata["tags"] = ["parameters"]
        return v4.new_notebook(cells=[cell])

    good = notebook(CELL)
    names = list(declared(good))

    def reader(data: bytes) -> None:
        text = data[1:].decode(errors="replace")
        given = bool(data) and data[0] % 2
        for name in names:
            try:
                check(*((good, {name: text}) if given else (notebook(text), {})))
            except ParameterError as error:
                assert str(error)

    return reader


def pinned_views(folder: Path) -> Reader:
    """A pinned view: any bytes, or (the first byte is odd) a good one with changes."""
    from seqlab.runs.pins import unpin

    def reader(data: bytes) -> None:
        path = folder / "view.json"
        path.write_bytes(changed(PIN, data[1:]) if data and data[0] % 2 else data[1:])
        try:
            unpin(path)
        except ValueError as error:
            assert str(path) in str(error)

    return reader


def run_folders(folder: Path) -> Reader:
    """One of the files of a finished run, or its JSON with changes; which, says the first byte.

    A folder that is not a run is skipped in a listing, and refused when it is opened.
    """
    from seqlab import models
    from seqlab.runs import store
    from seqlab.runs.find import finished_runs

    small = models.build("sasrec", 10, {"dim": 8, "heads": 2, "layers": 1, "max_length": 4})
    store.save(small, folder, "sasrec", 10)
    (folder / "provenance.json").write_text(json.dumps({"data": {"name": "a", "split": "b"}}), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps({"test": {"ndcg@10": 0.5}}), encoding="utf-8")
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(finished_runs(folder)) == 1

    def reader(data: bytes) -> None:
        kind = data[0] if data else 0
        path = list(whole)[kind % len(whole)]
        path.write_bytes(changed(whole[path], data[1:]) if kind > 127 and path.suffix == ".json" else data[1:])
        finished_runs(folder)
        try:
            store.load(folder)
        except ValueError as error:
            assert str(folder) in str(error)
        path.write_bytes(whole[path])

    return reader


def tables(folder: Path) -> Reader:
    """A leaderboard, which people may hand to each other."""
    from seqlab.experiments import leaderboard
    from seqlab.experiments.arm_names import rows_by_arm

    def reader(data: bytes) -> None:
        path = folder / "leaderboard.csv"
        path.write_bytes(data)
        try:
            list(rows_by_arm(leaderboard.read(path)))
        except ValueError as error:
            assert str(path) in str(error)

    return reader


def recommendations(folder: Path) -> Reader:
    """A table of recommendations of another system: .csv, or (the first byte is odd) .parquet."""
    from seqlab.adapters.recommendations import read_recommendations
    from seqlab.datasets import DataError, leave_one_out
    from tests.synthetic import log_of

    split = leave_one_out(log_of([[1, 2, 3, 4], [5, 4, 5, 2], [3, 1, 2, 5, 1]], repeats=True))

    def reader(data: bytes) -> None:
        path = folder / ("lists.parquet" if data and data[0] % 2 else "lists.csv")
        path.write_bytes(data[1:])
        for bad in ("refuse", "drop"):
            try:
                found = read_recommendations(path, split, bad=bad).outcome(split, seen_filter=True)
            except DataError as error:
                assert str(error)
                continue
            assert (found.frame["rank"] >= 1).all() and found.values().stack().between(0, 1).all()

    return reader


def settings(folder: Path) -> Reader:
    """A setting of a system as it is written in a shell: key=value."""
    from seqlab import models

    names = models.names()

    def reader(data: bytes) -> None:
        key, _, value = data[1:].decode(errors="replace").partition("=")
        try:
            models.configure(names[data[0] % len(names) if data else 0], {key: value})
        except ValueError as error:
            assert str(error)

    return reader


READERS: dict[str, tuple[Callable[[Path], Reader], list[bytes]]] = {
    "events": (events, [
        *(bytes([kind]) + CSV.replace(b",", b",\t"[kind % 2 : kind % 2 + 1]) for kind in range(4)),
        b"\x05user" + RATINGS.replace(b"1::2::5::", b"::item::5::time\n1::2::5::"), b"\x05" + RATINGS,
        b"\x00" + CSV.decode().encode("utf-16"), b"\x00" + CSV.replace(b",A", b',"A').replace(b",B", b',B"'),
        b"\x00" + CSV.replace(b",A", b",\xc4"),
    ]),
    "cards": (cards, [
        b"\x00" + CARD, b"\x00since = 2020-01-01\ntime_format = '%Y'\n" + CARD, b"\x00file = " + DEEP, b"\x01" + CSV,
        b"\x01" + CSV.replace(b"u2", b"U1 ").replace(b"title", b"event").replace(b"2020", b"1970"),
    ]),
    "official": (official, [
        b"\x00" + RATINGS, b"\x01" + RATINGS.replace(b"::", b"\t"), b"\x02" + REVIEW, b"\x03" + REVIEW, b"\x03" + DEEP,
    ]),
    "typed": (typed, [b"10\n11, 12", b"tea pot; Tea, green", "Ünïcode; 2\t10".encode(), LONG]),
    "parameters": (parameters, [
        b"\x00" + CELL.encode(), b"\x00n = " + DEEP, b"\x00n = " + b"-" * 5000 + b"1", b"\x00n = 1" + b"+ 1" * 5000,
        b"\x01[1, 2]", b"\x01None", b"\x010.5", b"\x01true", b"\x01" + DEEP, b"\x01" + LONG,
        b"\x01" + b"-" * 5000 + b"1",
    ]),
    "pinned_views": (pinned_views, [
        b"\x00" + PIN, b"\x00" + PIN.replace(b"run\"", LONG + b"\""), b"\x00" + DEEP, b"\x01\x02\x03",
    ]),
    "run_folders": (run_folders, [
        b'\x00{"system": "sasrec", "n_items": 10, "config": {"dim": 8}}', b'\x01{"test": {"ndcg@10": 0.5}}',
        b'\x02\x10\x00\x00\x00\x00\x00\x00\x00{"a": {}}       ', b'\x03{"data": {"name": "a", "split": "b"}}',
        *(bytes([kind]) + DEEP for kind in range(4)), *(bytes([128 + kind, 1, 2, 3]) for kind in range(4)),
    ]),
    "tables": (tables, [TABLE, TABLE.replace(b"{", DEEP)]),
    "recommendations": (recommendations, [
        b"\x00" + LISTS, b"\x00" + LISTS.replace(b"score", b"rank"), b"\x00" + LISTS.replace(b",0.5", b","),
        b"\x01PAR1",
    ]),
    "settings": (settings, [b"\x00dim=64", b"\x05dropout=.5", b"\x09layers=none", b"\x00dim=" + LONG]),
}  # fmt: skip
"""Of each reader what makes it, given an empty folder, and the inputs to begin with: good ones, and known nuisances."""


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in READERS:
        sys.exit(f"{__doc__}\nReaders: {', '.join(READERS)}.")
    import atheris

    name, place, *options = sys.argv[1:]
    make, seeds = READERS[name]
    with atheris.instrument_imports(include=["seqlab"]):
        reader = make(Path(tempfile.mkdtemp()))
    if Path(place).is_dir():
        for number, seed in enumerate(seeds):
            (Path(place) / f"seed-{number}").write_bytes(seed)
        options = [f"-artifact_prefix={place}/", "-timeout=10", *options]
    atheris.Setup([__file__, place, *options], reader)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
