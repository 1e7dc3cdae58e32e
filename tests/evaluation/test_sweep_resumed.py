"""A sweep goes on: what is known is not scored again, whatever ended the last run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from sweeping import line

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.evaluation.variants import Variant


def test_a_second_run_scores_nothing_again(run: Any, scored: list[str]) -> None:
    first = run()
    scored.clear()
    assert run() == first
    assert scored == []


def test_more_sizes_are_added_to_those_that_are_known(run: Any, scored: list[str]) -> None:
    run(layers=[0, 1])
    scored.clear()
    run(layers=[0, 1, 3])
    assert scored == ["0,1,3"]


def test_a_search_is_part_of_what_is_known(run: Any, scored: list[str]) -> None:
    run(order=["exact"])
    scored.clear()
    rows = run(order=["exact,first,greedy"]).rows
    assert set(scored) <= {Variant(row.patched_blocks).key for row in rows}


def test_a_line_that_a_kill_cut_off_is_forgotten(run: Any) -> None:
    first = run()
    journal = first.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert run() == first


def test_scores_of_an_older_sweep_that_lack_a_measure_are_made_anew(run: Any, scored: list[str]) -> None:
    first = run()
    journal = first.path / "journal.jsonl"
    lines = [json.loads(each) for each in journal.read_text().splitlines()]
    for each in lines:
        if each.get("key", "").startswith("window "):
            each["values"] = {key: sums[:2] for key, sums in each["values"].items()}
    journal.write_text("".join(json.dumps(each) + "\n" for each in lines))
    scored.clear()
    assert run() == first
    assert {*scored} == {"none", "0", "0,1", "0,1,3"}


def test_a_damaged_journal_is_refused(run: Any) -> None:
    journal = run().path / "journal.jsonl"
    journal.write_bytes(b"{]\n" + journal.read_bytes())
    assert "journal.jsonl is damaged: start anew with --overwrite" in line(OutputError, run)


def test_a_killed_sweep_goes_on_and_ends_as_an_uninterrupted_one(run: Any, folder: Path, tmp_path: Path) -> None:
    settings = {
        "student": folder / "student",
        "data": [folder / "text.txt"],
        "batch_size": 1,
        "output": tmp_path / "killed",
    }
    program = (  # killed by itself, so that no busy machine can be late
        "import os, pathlib, signal, sys\nfrom boomerang_cli.engine.sweep import sweep\n"
        "journal = pathlib.Path(sys.argv[3], 'journal.jsonl')\n"
        "def kill(*_):\n"
        "    if journal.is_file() and journal.read_bytes().count(b'\\n') >= 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sweep(student=sys.argv[1], data=[sys.argv[2]], batch_size=1, output=sys.argv[3], on_progress=kill)\n"
    )
    arguments = [str(folder / "student"), str(folder / "text.txt"), str(settings["output"])]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    assert run(output=tmp_path / "killed", batch_size=1).rows == run(batch_size=1).rows


def test_a_model_of_another_order_takes_the_place_of_one_of_its_depth(run: Any) -> None:
    run(write=True, order=["first"], layers=[1])
    path = run(write=True, order=["last"], layers=[1]).path
    assert json.loads((path / "6L" / "boomerang.json").read_text())["patched_blocks"] == [3]


def test_a_written_model_is_not_written_again(run: Any) -> None:
    path = run(write=True).path
    before = (path / "7L").stat().st_ino
    run(write=True)
    assert (path / "7L").stat().st_ino == before
