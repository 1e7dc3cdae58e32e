"""Which blocks are patched at each size: a named order, a student's own, or a file that ``sweep`` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.files import ask, at_home
from boomerang_cli.engine.checkpoint.json_files import read_json_value
from boomerang_cli.engine.errors import CheckpointError, SelectionError, did_you_mean
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.student_config import is_whole_numbers


@dataclass(frozen=True)
class Order:
    """The set of blocks that is patched at each k.

    Attributes:
        name: ``first``, ``last``, ``greedy``, ``exact``, ``nested``, or ``given``.
        sets: ``sets[k]`` holds k blocks, ascending; n + 1 sets in all. Those of ``exact`` need not be nested.
    """

    name: str
    sets: tuple[tuple[int, ...], ...]

    @classmethod
    def of_sequence(cls, name: str, sequence: Sequence[int]) -> Order:
        return cls(name, tuple(tuple(sorted(sequence[:k])) for k in range(len(sequence) + 1)))

    @property
    def sequence(self) -> tuple[int, ...] | None:
        """The blocks in the sequence in which they are patched; None if the sets are not nested."""
        steps = [set(after) - set(before) for before, after in pairwise(self.sets)]
        return tuple(min(step) for step in steps) if all(len(step) == 1 for step in steps) else None

    def blocks(self, k: int) -> tuple[int, ...]:
        """Return the blocks that are patched at size k.

        Raises:
            SelectionError: k is not from 0 to n.
        """
        n = len(self.sets) - 1
        if k and not n:
            raise SelectionError(f"--layers {k}: the student has all layers of its teacher, and no block to patch")
        if not 0 <= k <= n:
            raise SelectionError(f"--layers {k} is out of range: this pair has {n} patchable blocks, give 0 to {n}")
        return self.sets[k]

    def as_json(self, layer_map: LayerMap) -> dict[str, Any]:
        """Return the content of an order file; it names the student that it belongs to by its kept layers."""
        return {
            "order": self.name,
            "teacher_layers": layer_map.teacher_layers,
            "copied_teacher_layers": list(layer_map.kept),
            "sequence": None if self.sequence is None else list(self.sequence),
            "patched_blocks": [list(blocks) for blocks in self.sets],
        }


NAMED = ("auto", "first", "last")
"""Orders that need no search."""
SEARCHED = ("greedy", "exact", "nested")
"""Orders that a sweep finds by scoring models."""


def find_order(
    order: str,
    layer_map: LayerMap,
    recorded: str | Sequence[int] | None,
    default: str,
    *,
    names: Sequence[str] = NAMED,
) -> Order:
    """Return the order that ``--order`` names.

    Args:
        order: ``auto``, ``first``, ``last``, or the path of an order file: what ``sweep`` wrote, or a list of blocks.
        recorded: what the student records, for ``auto``.
        default: the family's, where the student records none.
        names: all that the user could have given, for the error.

    Raises:
        SelectionError: no such order or file, or an order of another student.
    """
    listed = ", ".join(names)
    if order in SEARCHED:
        raise SelectionError(
            f"--order {order} is found by a search: there are {listed}; `boomerang sweep --data TEXT --order {order}` "
            "finds it"
        )
    if order in ("first", "last"):
        return Order.of_sequence(order, layer_map.order(order))
    if order == "auto":
        chosen = default if recorded is None else recorded
        return Order.of_sequence(chosen if isinstance(chosen, str) else "given", layer_map.order(chosen))
    path = at_home(order)
    if not ask(path.is_file):
        raise SelectionError(f"--order {path} is neither {listed} nor a file{did_you_mean(order, names)}", usage=True)
    return read_order(path, layer_map)


def read_order(path: Path, layer_map: LayerMap, flag: str = "--order") -> Order:
    """Read an order file, and check that it belongs to this student (errors as in :func:`find_order`).

    Args:
        flag: what names the file, for the error; empty if the user did not.
    """
    try:
        return parse_order(read_json_value(path), layer_map)
    except CheckpointError as error:
        raise SelectionError(f"{flag}: {error}" if flag else str(error)) from None
    except SelectionError as error:
        raise SelectionError(f"{flag} {path}: {error}".lstrip()) from None


def parse_order(content: Any, layer_map: LayerMap) -> Order:
    """Return the order that the content of an order file tells.

    Raises:
        SelectionError: it tells none, or one of another student.
    """
    if is_whole_numbers(content):
        return Order.of_sequence("given", layer_map.order(content))
    if not isinstance(content, dict) or not isinstance(content.get("patched_blocks"), list):
        raise SelectionError("holds neither a list of blocks nor patched_blocks: give a sweep's order.json")
    kept = content.get("copied_teacher_layers", list(layer_map.kept))
    depth = content.get("teacher_layers", layer_map.teacher_layers)
    if kept != list(layer_map.kept) or depth != layer_map.teacher_layers:
        raise SelectionError(
            f"this order is for another student: it keeps {kept} of {depth} layers, "
            f"this one keeps {list(layer_map.kept)} of {layer_map.teacher_layers}"
        )
    sets = content["patched_blocks"]
    n = len(layer_map.patchable)
    if len(sets) != n + 1 or not all(is_whole_numbers(blocks) and len(blocks) == k for k, blocks in enumerate(sets)):
        raise SelectionError(f"patched_blocks must hold a set of blocks for each size, of 0 to {n} blocks")
    name = content.get("order")
    return Order(name if isinstance(name, str) else "given", tuple(layer_map.check_blocks(blocks) for blocks in sets))
