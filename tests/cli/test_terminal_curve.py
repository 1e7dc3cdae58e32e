"""A sweep in a terminal: its curve in characters, its table, bold and colour."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from boomerang_cli.cli.style import Style
from boomerang_cli.cli.sweep_text import sweep_text
from boomerang_cli.cli.terminal_curve import terminal_curve
from boomerang_cli.engine.evaluation.pareto import Recommendation, Size
from boomerang_cli.engine.evaluation.rows import SweepRow, each_once

KL = {"first": (0.6, 0.5, 0.4, 0.0), "last": (0.6, 0.3, 0.1, 0.0)}
BLOCKS = {"first": ((), (0,), (0, 1), (0, 1, 2)), "last": ((), (2,), (1, 2), (0, 1, 2))}
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def rows(*orders: str, **values: Any) -> list[SweepRow]:
    return [
        SweepRow(k, 5 + k, 1_000_000 * (5 + k), 1, order, BLOCKS[order][k], **{"kl": KL[order][k], **values})
        for order in orders or ("last",)
        for k in range(4)
    ]


def recommended(row: SweepRow) -> Recommendation:
    size = Size(row.order, row.layers, row.depth, row.parameters, row.patched_blocks, row.kl or 0.0, None, None)
    return Recommendation("kl", (size,), size, "only size", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


# The curve


def test_a_line_a_size_has_a_letter_where_its_model_stands() -> None:
    lines = terminal_curve(rows("first", "last")).splitlines()
    assert lines[2:6] == [
        f"      5    5.00M student |{' ' * 52}*",
        f"      6    6.00M         |{' ' * 26}l{' ' * 16}f",
        f"      7    7.00M         |{' ' * 9}l{' ' * 25}f",
        "      8    8.00M teacher |*",
    ]
    assert lines[-1] == "f first  l last  * several of them"


def test_never_distilled_models_are_dots_or_beyond() -> None:
    found = rows()
    found[1:3] = replace(found[1], baseline={"kl": 0.9}), replace(found[2], baseline={"kl": 9.0})
    lines = terminal_curve(found).splitlines()
    assert [line.count(".") - 1 for line in lines[3:5]] == [1, 0]
    assert lines[4].endswith(">")
    assert "> those beyond, up to KL 9" in lines[-1]


def test_the_recommended_size_is_marked() -> None:
    found = rows()
    lines = terminal_curve(found, recommended(found[2])).splitlines()
    assert [line[0] for line in lines[2:6]] == [" ", " ", ">", " "]
    assert lines[-1] == "> recommended: 7 layers, 7.00M parameters (last, k = 2)"


@pytest.mark.parametrize("values", [{}, {"perplexity": 9.5, "baseline": {"kl": 5.0, "perplexity": 1e9}},
                                    {"perplexity": 1e12, "tasks": {"a_task_with_a_long_name": {"acc": 0.5}}},
                                    {"perplexity": math.inf}])  # fmt: skip
def test_eighty_columns_are_enough(values: dict[str, Any]) -> None:
    assert max(map(len, terminal_curve(rows("first", "last", **values)).splitlines())) <= 80


def test_a_curve_of_nothing_is_empty() -> None:
    assert terminal_curve(rows(kl=None)) == ""


# The table


def test_a_model_of_several_orders_is_one_row_and_the_teacher_comes_last() -> None:
    found = [(row.depth, row.order) for row in each_once(rows("first", "last"))]
    assert found == [(5, "all"), (6, "first"), (7, "first"), (6, "last"), (7, "last"), (8, "all")]


def test_rows_of_one_order_stay_as_they_are() -> None:
    assert each_once(rows()) == tuple(rows())


def test_the_curve_stands_below_the_table_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "student |" not in sweep_text(rows(), None)[0]
    monkeypatch.setattr("sys.stdout", Terminal())
    assert "student |" in ESCAPES.sub("", sweep_text(rows(), None)[0])


def test_a_narrow_terminal_gets_a_narrow_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    text = ESCAPES.sub("", sweep_text(rows("first", "last", perplexity=9.5), None)[0])
    assert "student |" in text
    assert max(map(len, text.splitlines())) <= 60


# Bold and colour


@pytest.mark.parametrize(("stream", "environment", "plain"), [
    (Terminal(), {}, False),
    (Terminal(), {"NO_COLOR": "1"}, True),
    (Terminal(), {"NO_COLOR": ""}, False),
    (Terminal(), {"TERM": "dumb"}, True),
    (io.StringIO(), {}, True),
    (io.StringIO(), {"FORCE_COLOR": "1"}, False),
    (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True),
])  # fmt: skip
def test_a_stream_is_styled_as_its_user_wants(
    stream: io.StringIO, environment: dict[str, str], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (Style.of(stream).bold("x") == "x") is plain


def test_styled_text_reads_like_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows("first", "last", baseline={"kl": 5.0})
    plain = sweep_text(found, recommended(found[6]), curve=True)[0]
    monkeypatch.setenv("FORCE_COLOR", "1")
    styled = sweep_text(found, recommended(found[6]), curve=True)[0]
    assert ESCAPES.sub("", styled) == plain != styled
    assert len({*ESCAPES.findall(styled)}) > 4
