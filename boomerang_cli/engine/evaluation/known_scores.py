"""What is known of a pair's sizes: a sweep that the user names, their own, or the one that a student came with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.checkpoint.files import ask
from boomerang_cli.engine.output.output_marker import RESULTS_FILE
from boomerang_cli.engine.pair.order import read_order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import SCORES_FILE

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.swept import Swept

SWEEP = Path("sweep")
"""Where ``sweep`` writes by itself."""


def known_scores(
    pair: Pair, order: str | None, results: str | Path | None, on_note: Callable[[str], None]
) -> Swept | None:
    """Return the sweep that ``results`` names, else that of an order file, else ``./sweep``, else the student's own.

    But for the first, scores are used only if they are of this very pair.

    Args:
        order: as for ``patch``.
        on_note: told why scores are not used, or may mislead.

    Raises:
        CheckpointError, SelectionError: ``results`` names none, or one that is damaged or of another student; or the
            order file does.
        HubError: the Hub fails.
    """
    folder = SWEEP
    if order and ask(Path(order).is_file):
        read_order(Path(order), pair.layer_map)  # refused at once, before a note says the same
        folder = Path(order).parent
    found: Swept | None = None
    if results is not None:
        from boomerang_cli.engine.evaluation.swept import read_sweep

        found = read_sweep(Path(results), pair)
        if other := found.other_files(pair):
            on_note(f"warning: {results} scored other files of the {other} than these: its scores may not be theirs")
    elif ask((folder / RESULTS_FILE).is_file):
        from boomerang_cli.engine.evaluation.swept import find_sweep

        found = find_sweep(folder, pair, on_note)
    if found is None and SCORES_FILE in pair.student.files:
        from boomerang_cli.engine.evaluation.published_sweep import find_published

        found = find_published(pair, on_note)
    return found
