"""Ends of a student that are its teacher's, as a patched model's can be: seen from their bytes, not from a record."""

from __future__ import annotations

from collections.abc import Mapping

from boomerang_cli.engine.checkpoint.same_bytes import hold_the_same, is_remote
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.pair.layers import LayerSource, Owner
from boomerang_cli.engine.pair.pair import Pair


class SharedEnds:
    """Finds out whose the embedding and the head of a pair's models are.

    A model patched at one end has the teacher's embedding or head, as a matrix of its own. Where the teacher uses one
    matrix as both, and the model is patched at its other end too, both are the teacher's again: one matrix, as in the
    model that is patched at both ends at once. Bytes are compared, up to the first that differs, since a model that was
    trained further has a matrix of its own in the same place. What is not on this disk is not fetched for that, and
    keeps two matrices.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._known: dict[str, bool] = {}

    def owners(self, sources: tuple[LayerSource, ...]) -> tuple[Owner, Owner]:
        """Return whose are what stands before the layers and what follows them: the first layer's and the last's."""
        first, last = sources[0].owner, sources[-1].owner
        parts = self._pair.parts
        if first == last or not parts["teacher"].tied or parts["student"].tied:
            return first, last
        teacher, student = parts["teacher"].untied(self._pair.family), parts["student"]
        end = "before" if first == "student" else "after"
        if end not in self._known:
            self._known[end] = _are_same(getattr(student, end), getattr(teacher, end))
        return ("teacher", "teacher") if self._known[end] else (first, last)


def _are_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        not is_remote(tensor, theirs[name]) and hold_the_same(tensor, theirs[name]) for name, tensor in ours.items()
    )
