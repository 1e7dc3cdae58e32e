"""What a sweep found out of a pair, read from the folder that it wrote: the orders, and the scores of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.content_digest import config_digest, weights_digest, weights_sample
from boomerang_cli.engine.checkpoint.files import ask
from boomerang_cli.engine.checkpoint.fingerprint import fingerprint
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import CheckpointError, SelectionError
from boomerang_cli.engine.evaluation.read_rows import read_rows
from boomerang_cli.engine.evaluation.rows import ORDER_FILE, SweepRow
from boomerang_cli.engine.output.output_marker import RESULTS_FILE
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import NAMED, Order, find_order, read_order
from boomerang_cli.engine.pair.pair import Pair


@dataclass(frozen=True)
class Swept:
    """A sweep of one pair.

    Attributes:
        data: the text that was scored on.
        best: ``order.json``.
        orders: by name, the best first.
        rows: models with what they score, by the blocks that are patched.
        fingerprints: of the files that were scored; empty of a sweep that was published.
        sha256: as :func:`digests_of` names what was scored, and samples of it; empty of older sweeps.
    """

    folder: Path
    data: tuple[str, ...]
    best: Order
    orders: Mapping[str, Order]
    rows: Mapping[tuple[int, ...], SweepRow]
    fingerprints: Mapping[str, str]
    sha256: Mapping[str, str | None] = field(default_factory=dict)

    def other_files(self, pair: Pair) -> str | None:
        """Return which of the two models has other files than those that were scored; None if neither has.

        Raises:
            CheckpointError: a file cannot be read.
        """
        models = {"student": pair.student, "teacher": pair.teacher}
        written_again = [name for name, each in models.items() if self.fingerprints.get(name) != fingerprint(each)]
        return " and ".join(name for name in written_again if not self._is_copy(name, models[name])) or None

    def _is_copy(self, name: str, model: Checkpoint) -> bool:
        """Tell whether files of another time, as those of a copied project, hold what was scored: all is read."""
        if name == "teacher" and self.sha256.get("teacher_config") != config_digest(model):
            return False
        scored, sample = self.sha256.get(name), self.sha256.get(f"{name}_sample")
        if scored is None or (sample is not None and weights_sample(model) not in (None, sample)):
            return False  # without reading all of it
        return scored == weights_digest(model)

    def order(self, name: str | None, pair: Pair) -> Order:
        """Return the order that ``--order`` names; None is the best.

        Raises:
            SelectionError: no such order; lists those that there are.
        """
        if name is None:
            return self.best
        if name in self.orders and name not in NAMED:
            return self.orders[name]
        names = (*NAMED, *(each for each in self.orders if each not in NAMED))
        return find_order(name, pair.layer_map, pair.student_config.order, pair.family.order, names=names)

    def scores(self, blocks: tuple[int, ...]) -> dict[str, float]:
        """Return what is known of the model with these blocks patched."""
        return self.rows[blocks].scores if blocks in self.rows else {}

    def told(self, blocks: tuple[int, ...], order: str) -> str:
        """Say what is known of the model that was chosen, and of a closer one with as many blocks patched."""
        scored = self.rows.get(blocks)
        if scored is None or scored.kl is None:
            return f"{self.folder}: order {order}, this size not scored"
        same = [row for row in self.rows.values() if row.layers == scored.layers and row.kl is not None]
        closest = min(same, key=lambda row: row.kl or 0.0)
        told = f"{self.folder}: order {order}, KL {scored.kl:.4f} on {', '.join(self.data)}"
        if closest.kl is None or closest.kl >= scored.kl:
            return told
        return f"{told}; {closest.order} is closer here, {closest.kl:.4f}: --order {closest.order}"


def digests_of(pair: Pair, student: str | None = None) -> dict[str, str | None]:
    """Return names for what was scored: both models' weights, and the configuration, which is the teacher's.

    Args:
        student: that of the student's weights, where it is known.

    Raises:
        CheckpointError: a file cannot be read.
    """
    weights = {"student": student or weights_digest(pair.student), "teacher": weights_digest(pair.teacher)}
    return {**weights, "teacher_config": config_digest(pair.teacher)}


def digests_and_samples_of(pair: Pair) -> dict[str, str | None]:
    """Return these names, and samples that tell other models without reading all of them."""
    samples = {"student_sample": weights_sample(pair.student), "teacher_sample": weights_sample(pair.teacher)}
    return {**digests_of(pair), **samples}


def read_sweep(folder: Path, pair: Pair) -> Swept:
    """Read the sweep that a user names.

    Raises:
        CheckpointError, SelectionError: there is none, it is damaged, or it is of another student.
    """
    folder = folder.parent if folder.name == RESULTS_FILE else folder
    if not ask((folder / RESULTS_FILE).is_file):
        raise SelectionError(f"--results {folder} holds no {RESULTS_FILE}: give the folder that a sweep wrote")
    return _read(folder, pair.layer_map, "--results")


def find_sweep(folder: Path, pair: Pair, on_note: Callable[[str], None]) -> Swept | None:
    """Return the sweep that stands in a folder, if it scored the very files of this pair.

    Args:
        on_note: told why it is not used.

    Raises:
        CheckpointError: a file of the pair cannot be read.
    """
    try:
        swept = _read(folder, pair.layer_map, "")
    except (CheckpointError, SelectionError) as error:
        on_note(f"{folder} is not used: {error}")
        return None
    if other := swept.other_files(pair):
        on_note(f"{folder} is not used: it scored other files of the {other}: sweep these")
        return None
    return swept


def _read(folder: Path, layer_map: LayerMap, flag: str) -> Swept:
    best = read_order(folder / ORDER_FILE, layer_map, flag)
    others = [read_order(path, layer_map, flag) for path in sorted(folder.glob("order-*.json"))]
    content = read_json(folder / RESULTS_FILE)
    damaged = SelectionError(f"{folder / RESULTS_FILE} is damaged: `boomerang sweep --overwrite` writes it anew")
    prints, digests = (content.get(key) for key in ("fingerprints", "sha256"))
    return Swept(
        folder=folder,
        data=read_names(content.get("data")),
        best=best,
        orders={order.name: order for order in (best, *others)},
        rows=by_blocks(read_rows(content.get("rows"), damaged), layer_map),
        fingerprints=prints if isinstance(prints, dict) else {},
        sha256=digests if isinstance(digests, dict) else {},
    )


def read_names(content: Any) -> tuple[str, ...]:
    """Return the names of texts; none where there is no list of them."""
    return tuple(map(str, content)) if isinstance(content, list) else ()


def by_blocks(rows: Sequence[SweepRow], layer_map: LayerMap) -> dict[tuple[int, ...], SweepRow]:
    """Return the rows of a pair by the blocks that are patched; each model counts once, the first.

    Raises:
        SelectionError: blocks that the pair does not have.
    """
    checked = [replace(row, patched_blocks=layer_map.check_blocks(row.patched_blocks)) for row in rows]
    return {row.patched_blocks: row for row in reversed(checked)}
