"""Side by side with the peers, in one run on one machine: python tests/benchmarks/peers/compare.py --help

Runs every measurement in a process of its own, in the environment of its library (`make bench` makes them), one after
the other, and writes the table of ratios (peers.md) and the raw numbers (peers.csv). It can be stopped and called
again: what was measured on this machine within a day, with these threads and device and at least this budget, is not
measured again. `--only train.ml-1m` takes the pieces whose name contains that; `--again` repeats what would be kept;
`--table` only writes the table anew; `--users 1000 --minutes 1` tries everything on a little.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table

from seqlab.runtime import provenance

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SCRIPTS = {
    "seqlab": "with_seqlab.py", "rectools": "with_rectools.py", "recbole": "with_recbole.py", "faiss": "with_faiss.py",
    "vector_quantize": "with_vector_quantize.py", "machine": "limit.py",
    "data": "hand_over.py",
}  # fmt: skip
IN_OUR_ENVIRONMENT = ("seqlab", "vector_quantize", "machine", "data")
WITH_A_BUDGET = ("train", "tokenize")
LIBRARIES = ("seqlab", "rectools", "recbole")
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Piece:
    """One measurement of one library on one dataset."""

    measurement: str
    dataset: str
    library: str

    @property
    def name(self) -> str:
        return f"{self.measurement}.{self.dataset}.{self.library}"


def pieces(users: int) -> list[Piece]:
    """All of them, the short ones first."""
    cut = f"-first-{users}" if users else ""
    beauty, movies = f"amazon-beauty{cut}", f"ml-1m{cut}"
    found = [Piece("limit", name, "machine") for name in (beauty, movies)]
    found += [Piece("evaluate", name, one) for name in (beauty, f"{beauty}-x4", movies) for one in LIBRARIES]
    found += [Piece("tokenize", beauty, one) for one in ("seqlab", "vector_quantize", "faiss")]
    return found + [Piece("train", name, one) for name in (beauty, movies) for one in LIBRARIES]


def machine(device: str) -> str:
    """What the numbers depend on, in words."""
    import torch

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return f"{provenance.processor()}, {os.cpu_count()} cores, {memory:.0f} GiB{gpu}, {platform.system()}"


def cpu_seconds() -> float:
    """Of all processes that were started and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def read(path: Path) -> dict[str, Any] | None:
    """What a finished piece told, None where there is none."""
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    return told if "machine" in told else None


def is_fresh(piece: Piece, told: dict[str, Any] | None, given: argparse.Namespace) -> bool:
    """Whether a piece need not be measured again."""
    if told is None or told["machine"] != machine(given.device):
        return False
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(told["date"])
    return age < DAY and (piece.measurement not in WITH_A_BUDGET or told["minutes"] >= given.minutes)


def call(piece: Piece, given: argparse.Namespace, out: Path | None) -> int:
    """Run the script of a piece in its environment; its words go to a log. Returns its exit status."""
    bench = given.bench.resolve()
    python = sys.executable
    if piece.library not in IN_OUR_ENVIRONMENT:
        python = str(given.peers.absolute() / piece.library / "bin" / "python")
        if not Path(python).exists():
            print(f"{piece.name}: {python} is not there; `make bench` makes it, or name another folder with --peers.")
            return 1
    command = [python, str(HERE / SCRIPTS[piece.library]), piece.measurement, piece.dataset, "--data", bench / "data"]
    command += ["--minutes", given.minutes, "--threads", given.threads, "--device", given.device]
    command += ["--out", out] if out else []
    ours = piece.library in IN_OUR_ENVIRONMENT
    scratch, log = bench / "scratch", bench / "logs" / f"{piece.name}.log"  # libraries leave files where they run
    for folder in (scratch, log.parent, bench / "data"):
        folder.mkdir(parents=True, exist_ok=True)
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= dict.fromkeys(threads, str(given.threads)) | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    if ours:
        environment["PYTHONPATH"] = str(ROOT)
    with log.open("w", encoding="utf-8") as told:
        environment["PEERS_STARTED"] = str(time.time())
        done = subprocess.run(
            [str(word) for word in command], cwd=None if ours else scratch, env=environment, stdout=told,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    if done.returncode:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["it said nothing (out of memory?)"]
        print(f"{piece.name}: failed with status {done.returncode}: {last[0]}\n  all it said: {log}", flush=True)
    return done.returncode


def measure(piece: Piece, given: argparse.Namespace, out: Path) -> bool:
    """Hand over the data if they are not there yet, run the piece, and note when and where. False: it failed."""
    if not (given.bench / "data" / piece.dataset / "events.csv").exists():
        print(f"{piece.dataset}: handing over ...", flush=True)
        if call(Piece("export", piece.dataset, "data"), given, None):
            return False
    print(f"{piece.name}: measuring ...", flush=True)
    began, before = time.monotonic(), cpu_seconds()
    aside = out.with_suffix(".unfinished")
    if call(piece, given, aside):
        return False
    told = json.loads(aside.read_text(encoding="utf-8"))
    told |= {
        "library": piece.library, "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(given.device), "revision": provenance.git_revision(),
        "wall_seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(cpu_seconds() - before, 1),
    }  # fmt: skip
    aside.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, out)
    print(f"{piece.name}: done in {told['wall_seconds']:.0f} s", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=ROOT / ".bench", help="where data, pieces and logs lie")
    parser.add_argument("--peers", type=Path, default=ROOT / ".bench" / "peers", help="folder of the environments")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results", help="where peers.md and peers.csv go")
    parser.add_argument("--minutes", type=float, default=30.0, help="budget of each training, validation aside")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every library")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--users", type=int, default=0, help="only so many users of each dataset, to try the driver")
    parser.add_argument("--only", nargs="*", default=[""], help="pieces whose name contains one of these")
    parser.add_argument("--again", action="store_true", help="measure what is fresh, too")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table of what there is")
    given = parser.parse_args()
    store = given.bench.resolve() / "pieces" / f"{given.device}-{given.threads}-threads"
    store.mkdir(parents=True, exist_ok=True)
    planned, failed = pieces(given.users), []
    for piece in planned:
        out = store / f"{piece.name}.json"
        if given.table or not any(part in piece.name for part in given.only):
            continue
        if is_fresh(piece, read(out), given) and not given.again:
            print(f"{piece.name}: measured already.")
        elif not measure(piece, given, out):
            failed.append(piece.name)
    told = {piece.name: found for piece in planned if (found := read(store / f"{piece.name}.json")) is not None}
    if given.users and given.out == parser.get_default("out"):
        given.out = given.bench  # a trial is no result
    print(table.write(told, [piece.name for piece in planned if piece.name not in told], given.out))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
