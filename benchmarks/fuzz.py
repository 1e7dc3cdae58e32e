"""Damaged files and command lines, by the ten thousand: each ends in one line or a right result, or is printed.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --cases 1000 --target config.json --seed 7

Half of the damage is to bytes, half to the structure of the JSON. A case fails that raises anything but the engine's
errors, takes more than five seconds, needs more memory than a fixed margin above what the first cases needed, writes
where it should not, or gives a model that differs from its plan. ``tests/fuzzing.py`` says what each target checks.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS_PER_CASE = 5
MARGIN_BYTES = 768 * 2**20
"""Of address space: the files that are damaged have a few kilobytes, and each thread that converts sets 64 MB aside."""
WARM_UP_CASES = 50

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzzing import TARGETS, workspace  # noqa: E402


class TooSlowError(Exception):
    """A case took too long; no error of the engine, so no target takes it for one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="a target")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the next has the next")
    parser.add_argument("--target", choices=TARGETS, action="append", help="all by default")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_slow)
    print(f"{'target':22} {'cases':>7} {'refused':>8} {'accepted':>9} {'failed':>7} {'slowest s':>10} {'seconds':>8}")
    failed = sum(play(name, options.seed, options.cases) for name in options.target or TARGETS)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB, {failed} failures")
    return 1 if failed else 0


def play(name: str, seed: int, cases: int) -> int:
    """Play cases of one target, print what became of them, and return how many failed."""
    outcomes: Counter[str] = Counter()
    root, started, slowest = workspace(Path(tempfile.mkdtemp())), time.monotonic(), 0.0
    for number in range(seed, seed + cases):
        if number == seed + WARM_UP_CASES:
            _limit_memory()
        at = time.monotonic()
        try:
            signal.alarm(SECONDS_PER_CASE)
            outcomes[TARGETS[name](random.Random(number), root)] += 1
        except BaseException as error:  # whatever it is, it should not have come out
            if isinstance(error, KeyboardInterrupt):
                raise
            outcomes["failed"] += 1
            print(f"{name}: --seed {number} --cases 1: {_shown(error)}")
            shutil.rmtree(root)
            root = workspace(Path(tempfile.mkdtemp()))
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.monotonic() - at)
    _limit_memory(none=True)
    shutil.rmtree(root)
    row = [cases, outcomes["refused"], outcomes["accepted"], outcomes["failed"]]
    seconds = time.monotonic() - started
    print(f"{name:22} {row[0]:7} {row[1]:8} {row[2]:9} {row[3]:7} {slowest:10.2f} {seconds:8.0f}", flush=True)
    return outcomes["failed"]


def _limit_memory(*, none: bool = False) -> None:
    """Let this process have a little more address space than it has, or as much as there is."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if none else in_use + MARGIN_BYTES, most))


def _shown(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]!r} at {Path(frame.filename).name}:{frame.lineno}"


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {SECONDS_PER_CASE} seconds")


if __name__ == "__main__":
    raise SystemExit(main())
