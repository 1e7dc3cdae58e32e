"""Where a training begins: at step 0, or at the newest checkpoint of the same training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boomerang_cli.engine.distillation.identity import check_same_contents
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.training_folder import TABLE, TrainingFolder, read_progress
from boomerang_cli.engine.errors import OutputError, TrainingError


@dataclass(frozen=True)
class Start:
    """The checkpoint to go on from, with what it records; None at step 0."""

    checkpoint: Path | None = None
    progress: dict[str, Any] = field(default_factory=dict)


def find_start(
    folder: TrainingFolder,
    identity: Mapping[str, Any],
    recipe: Recipe,
    levers: Levers,
    *,
    resume: bool,
    overwrite: bool,
) -> Start:
    """Look at what an earlier run left; nothing of it is touched yet.

    Args:
        identity: its ``contents`` are those of this training (see ``identity.contents_of``).

    Raises:
        OutputError: there is a training that neither ``resume`` nor ``overwrite`` decides about.
        TrainingError: there is nothing to resume, or it was another training.
    """
    checkpoint = folder.newest()
    if resume:
        if checkpoint is None:
            raise TrainingError(f"nothing to resume: {folder.path} holds no complete checkpoint; leave out --resume")
        progress = read_progress(checkpoint)
        if "phases" not in progress or not (checkpoint / TABLE).exists():
            raise TrainingError(
                "the run to resume was begun by a version that wrote other checkpoints: go on with that version, or "
                "start anew with --overwrite"
            )
        recipe.check_same(progress.get("recipe", {}))
        levers.check_same(progress.get("levers"))
        check_same_contents(identity["contents"], progress.get("contents"))
        return Start(checkpoint, progress)
    if checkpoint is not None and not overwrite:
        raise OutputError(
            f"{folder.path} holds a training that was begun: go on with --resume, or start anew with --overwrite"
        )
    return Start()
