"""A sweep in several processes, over gloo: the work is shared out, and what comes out is what one process finds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from files import names
from processes import in_processes, two_boomerangs, wait_for

from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.shared_scorer import Piece, cut
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.processes.group import rank
from boomerang_cli.engine.sweep import sweep

ASKED: dict[str, Any] = {
    "order": ["first,last,greedy,exact,nested"],
    "batch_size": 2,  # seven batches of 13 windows
    "calibration_sequences": 3,
    "baseline": True,
    "prompt": ["w3 w4"],
    "write": True,
}


def sweep_and_tell(settings: dict[str, Any]) -> None:
    """Sweep in one of several processes, and write down what it scored and what it was given back."""
    torch.set_num_threads(1)
    scored: list[tuple[str, int]] = []
    score = Scorer.score

    def spy(self: Scorer, variants: Any, windows: Any, rows: Any, *rest: Any, **more: Any) -> Any:
        scored.extend((f"{variant.key} {windows.digest}", row) for variant in variants for row in rows)
        return score(self, variants, windows, rows, *rest, **more)

    Scorer.score = spy  # type: ignore[method-assign]
    result = sweep(**settings)
    seen = {"scored": scored, "rows": repr(result.rows)}
    Path(f"{settings['output']}-{rank()}.json").write_text(json.dumps(seen))


def shared(count: int, output: Path, run: Any, **settings: Any) -> list[Any]:
    """Sweep in so many processes, and return what each of them wrote down."""
    in_processes(count, sweep_and_tell, run.given(output=output, **settings))
    return [json.loads(Path(f"{output}-{index}.json").read_text()) for index in range(count)]


def test_two_and_then_three_processes_go_on_with_one_sweep_and_find_what_one_finds(run: Any, tmp_path: Path) -> None:
    alone = run(**ASKED)
    begun = shared(2, tmp_path / "shared", run, **{**ASKED, "order": ["last,exact"], "layers": [1, 3], "write": False})
    journal = tmp_path / "shared" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-6]) + b'{"ke')  # as a kill leaves it
    ended = shared(3, tmp_path / "shared", run, **ASKED)
    assert [each["rows"] for each in ended] == [repr(alone.rows)] * 3
    assert names(tmp_path / "shared") == names(alone.path)
    for name in ("results.csv", "order.json", "order-nested.json", "samples.md"):
        assert (tmp_path / "shared" / name).read_bytes() == (alone.path / name).read_bytes()
    for told in (begun, ended):
        searched = [tuple(each) for one in told[1:] for each in one["scored"]]
        assert len(searched) == len(set(searched))
        assert all(len(one["scored"]) > len(told[0]["scored"]) / 4 for one in told)


def test_when_a_process_is_killed_the_other_ends_with_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text((folder / "text.txt").read_text() * 50)
    asked = ("--data", str(tmp_path / "long.txt"), "--student", str(folder / "student"), "--batch-size", "1")
    first, second = two_boomerangs("sweep", *asked, "--sequences", "99999", "-o", str(tmp_path / "sweep"), "--quiet")
    journal = tmp_path / "sweep" / "journal.jsonl"
    wait_for(lambda: journal.is_file() and journal.read_bytes().count(b"\n") > 5, first)
    second.kill()
    killed = time.monotonic()
    output, said = first.communicate(timeout=60)
    assert (first.returncode, output) == (1, "")
    assert said == (
        "error: one of 2 processes was killed, or its machine was lost: the same command goes on from what is kept in "
        f"{tmp_path / 'sweep'}\n"
    )
    assert time.monotonic() - killed < 30


# How work is cut

LAYERS = LayerMap(8, (0, 2, 4, 6))
ALL = [Variant(tuple(block for block in range(4) if number >> block & 1)) for number in range(16)]


def test_as_many_batches_as_processes_are_scored_one_by_each() -> None:
    batches = [Piece(range(start, start + 2), ALL) for start in (0, 2, 4)]
    assert cut(batches, 3, LAYERS) == batches


@pytest.mark.parametrize("processes", [2, 3, 4, 16, 20])
def test_a_single_batch_is_cut_to_parts_of_the_tree_that_share_what_models_begin_with(processes: int) -> None:
    pieces = cut([Piece(range(2), ALL)], processes, LAYERS)
    assert sorted(variant.key for piece in pieces for variant in piece.variants) == sorted(each.key for each in ALL)
    sizes = {len(piece.variants) for piece in pieces}
    assert max(sizes) - min(sizes) <= 1
    if processes in (2, 4):
        beginnings = [{variant.blocks[:1] == (0,) for variant in piece.variants} for piece in pieces]
        assert all(len(each) == 1 for each in beginnings)


def test_what_is_left_over_is_cut_for_processes_that_would_wait() -> None:
    pieces = cut([Piece(range(2), ALL), Piece(range(2, 3), ALL)], 3, LAYERS)
    assert [(piece.rows.start, len(piece.variants)) for piece in pieces] == [(0, 8), (2, 16), (0, 8)]
