"""What Python users see of a result: one line with its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from boomerang_cli import info, init_student, patch, push, sweep
from boomerang_cli.engine.brief import Brief


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    init_student("builtin:demo", output=folder / "student")
    return folder


def test_a_patched_model_prints_its_path_and_size_and_not_its_plan(project: Path) -> None:
    result = patch(layers=2, student=project / "student", output=project / "patched")
    assert repr(result) == (
        f"PatchResult(path='{project}/patched', layers=2, depth=9, parameters={result.parameters}, "
        f"bytes={result.bytes}, dtype='bfloat16', order='last', patched_blocks=(3, 4))"
    )
    assert result.plan.sources


def test_every_verb_returns_what_prints_as_one_short_line(project: Path) -> None:
    student = project / "student"
    results = [
        init_student("builtin:demo", output=project / "other", dry_run=True),
        sweep(student=student, output=project / "sweep", dry_run=True),
        push(student, "me/model", dry_run=True),
        info(student),
    ]
    assert all(len(repr(result).replace(str(project), "")) < 300 for result in results), results
    assert "rows=<6>" in repr(results[1])


def test_a_row_prints_what_was_measured_alone(project: Path) -> None:
    row = sweep(student=project / "student", output=project / "sweep", dry_run=True).rows[1]
    assert repr(row).startswith("SweepRow(order='last', layers=1, depth=8, parameters=")
    assert "perplexity" not in repr(row)


@dataclass(frozen=True, repr=False)
class Numbers(Brief):
    brief = ("zero", "long", "losses")
    zero: int = 0
    long: tuple[int, ...] = (1, 2, 3, 4, 5)
    losses: dict[str, float] | None = None


def test_zero_is_shown_and_what_is_long_is_counted() -> None:
    assert repr(Numbers()) == "Numbers(zero=0, long=<5>)"
    assert repr(Numbers(losses={"kl": 1 / 3})) == "Numbers(zero=0, long=<5>, losses={kl: 0.3333})"
