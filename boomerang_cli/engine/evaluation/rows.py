"""The rows of a sweep: one a size and order, known from headers alone, then filled with scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.output.output_marker import RESULTS_FILE
from boomerang_cli.engine.pair.order import Order

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.pareto import Recommendation
    from boomerang_cli.engine.output.planner import Planner

TABLE_FILE, ORDER_FILE = "results.csv", "order.json"
PICTURE_FILE, VECTORS_FILE, SAMPLES_FILE = "curve.png", "curve.svg", "samples.md"
RESULTS = (RESULTS_FILE, TABLE_FILE, ORDER_FILE, PICTURE_FILE, VECTORS_FILE, SAMPLES_FILE)
"""The files that a sweep writes; the last three where there is something to show."""


SCORES = (
    "perplexity", "perplexity_stderr", "kl", "kl_stderr", "top1", "acceptance", "tokens_per_second",
    "generated_tokens_per_second",
)  # fmt: skip
"""The numbers of a row that ``patch`` chooses by, and tells."""


@dataclass(frozen=True, repr=False)
class SweepRow(Brief):
    """One size of one order. What was not measured is None, or empty.

    Attributes:
        layers: k, the number of patched blocks.
        depth: the number of layers.
        bytes: of all tensors, as ``patch`` would write them.
        perplexity, perplexity_stderr: ``exp`` of the mean negative log-likelihood of a token; its error over windows.
        kl, kl_stderr: the mean over tokens of KL(teacher || model), in nats, and its standard error.
        top1: the share of positions where the model's most likely token is the teacher's.
        acceptance: the share of tokens drafted by it that speculative sampling accepts for the teacher.
        tokens_per_second, generated_tokens_per_second: read in a forward pass, and written, one sequence at a time.
        memory_bytes: the peak of a forward pass, weights included; on a GPU.
        baseline: ``perplexity`` and ``kl`` of the never-distilled model with the same blocks patched.
        tasks: lm-eval's numbers by task.
        portable: whether llama.cpp and MLX LM, too, read it as transformers does, as far as is known.
        samples: a ``prompt`` and the ``text`` that the model writes behind it, greedily, for each.
    """

    brief = (
        "order", "layers", "depth", "parameters", "bytes", "patched_blocks", "perplexity", "kl", "tokens_per_second",
    )  # fmt: skip

    layers: int
    depth: int
    parameters: int
    bytes: int
    order: str
    patched_blocks: tuple[int, ...]
    perplexity: float | None = None
    perplexity_stderr: float | None = None
    kl: float | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None
    baseline: Mapping[str, float] | None = None
    tasks: Mapping[str, Mapping[str, float]] | None = None
    samples: tuple[Mapping[str, str], ...] | None = None
    top1: float | None = None
    acceptance: float | None = None
    kl_stderr: float | None = None
    portable: bool = True
    generated_tokens_per_second: float | None = None

    @property
    def scores(self) -> dict[str, float]:
        """What is known of :data:`SCORES`."""
        return {name: value for name in SCORES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Miss:
    """A size that is worse than a bound.

    Attributes:
        measure: ``perplexity`` or ``kl``.
    """

    order: str
    layers: int
    measure: str
    value: float
    bound: float


@dataclass(frozen=True, repr=False)
class SweepResult(Brief):
    """All sizes that were asked for.

    Attributes:
        data: the text that was scored on; empty without.
        rows: one a size and order, those of one order together.
        misses: rows that are worse than ``max_perplexity`` or ``max_kl``.
        asked: what tasks and prompts were asked with: what was given alone.
        recommended: the sizes that are worth having, and the one that is recommended; None without scores of a text.
        warnings: why the scores may mean nothing.
        fingerprints: of the student's and the teacher's files, by which ``patch`` knows that scores are theirs.
        sha256: of the weights, by which they are known where files were copied; empty where nothing was scored.
        misreaders: programs that suppose of some size what is not so, by what that is.
    """

    brief: ClassVar[tuple[str, ...]] = ("path", "teacher", "student", "data", "rows", "misses", "warnings")

    path: Path
    teacher: str
    student: str
    data: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    misses: tuple[Miss, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    recommended: Recommendation | None = None
    warnings: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str | None] = field(default_factory=dict)
    misreaders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def plan_rows(orders: Iterable[Order], layers: Sequence[int] | None, planner: Planner) -> tuple[SweepRow, ...]:
    """Return the rows of these orders, without scores.

    Args:
        layers: which k, ascending and each once in the result; None is all.

    Raises:
        SelectionError: a k that the pair does not have.
    """
    n = len(planner.pair.layer_map.patchable)
    if layers is not None and not layers:
        raise SelectionError(f"--layers names no size: give numbers from 0 to {n}")
    chosen = range(n + 1) if layers is None else sorted(set(layers))
    return tuple(_plan_row(order, k, planner) for order in orders for k in chosen)


def _plan_row(order: Order, k: int, planner: Planner) -> SweepRow:
    blocks = order.blocks(k)
    plan = planner.plan(blocks)
    numbers = (len(plan.sources), plan.parameters, plan.size_bytes)
    return SweepRow(k, *numbers, order.name, blocks, portable=plan.portable)


def misreaders_of(rows: Iterable[SweepRow], planner: Planner) -> dict[str, tuple[str, ...]]:
    """Return which programs misread some of these sizes (see ``readers.misreaders``)."""
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        for supposed, programs in planner.plan(row.patched_blocks).misreaders.items():
            found[supposed] = tuple(dict.fromkeys((*found.get(supposed, ()), *programs)))
    return found


def find_misses(rows: Iterable[SweepRow], max_perplexity: float | None, max_kl: float | None) -> tuple[Miss, ...]:
    """Return where a row is above a bound; a value that is no number is above every bound."""
    bounds = {"perplexity": max_perplexity, "kl": max_kl}
    return tuple(
        Miss(row.order, row.layers, measure, getattr(row, measure), bound)
        for row in rows
        for measure, bound in bounds.items()
        if bound is not None and not getattr(row, measure) <= bound
    )


def best_order(rows: Sequence[SweepRow]) -> str:
    """Return the order whose sizes are closest to the teacher in the mean; the first, without such scores."""
    names = list(dict.fromkeys(row.order for row in rows))

    def mean_kl(name: str) -> float:
        distances = [row.kl for row in rows if row.order == name and row.kl is not None]
        return sum(distances) / len(distances) if distances else 0.0

    return min(names, key=mean_kl)


def each_once(rows: Sequence[SweepRow]) -> tuple[SweepRow, ...]:
    """Return each model once, named by all orders that have it, or ``all``; the end that they share comes last."""
    orders: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        orders.setdefault(row.patched_blocks, []).append(row.order)
    first = {row.patched_blocks: row for row in reversed(rows)}
    count, whole = len({row.order for row in rows}), max((row.layers for row in rows), default=0)

    def named(blocks: tuple[int, ...]) -> SweepRow:
        names = list(dict.fromkeys(orders[blocks]))
        return replace(first[blocks], order="all" if 1 < len(names) == count else ", ".join(names))

    return tuple(sorted(map(named, orders), key=lambda row: row.order == "all" and row.layers == whole > 0))
