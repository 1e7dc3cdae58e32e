"""``info``: what a folder or a repository of the Hub is, and what can be made with it; from headers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from boomerang_cli.engine.checkpoint.files import ask, at_home
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE
from boomerang_cli.engine.distillation.training_info import TrainingInfo, read_training_info
from boomerang_cli.engine.errors import ModelNotFoundError
from boomerang_cli.engine.evaluation.known_scores import known_scores
from boomerang_cli.engine.evaluation.sweep_info import SweepInfo, read_sweep_info
from boomerang_cli.engine.output.output_marker import RESULTS_FILE, kind_of
from boomerang_cli.engine.publishing.model_info import ModelInfo, in_order, read_model_info

Info = ModelInfo | SweepInfo | TrainingInfo


def info(model: str | Path) -> Info:
    """Tell what a folder or a repository is; no weights are read, and neither torch nor transformers.

    Of a model's type that is in no table, transformers is asked how it is built.

    Args:
        model (str | Path): a folder of a model, of a sweep or of a training that was begun; ``owner/name[@revision]``
            on the Hub; or ``builtin:demo``.

    Returns:
        A ``ModelInfo``, ``SweepInfo`` or ``TrainingInfo``; ``kind`` tells which.

    Raises:
        ModelNotFoundError: there is nothing of that name, or a folder of something else.
        CheckpointError, UnsupportedModelError, PairError: it is damaged, or its layers cannot be moved; says why.
        TrainingError: a training's checkpoint is damaged.
        HubError: the Hub refuses, fails, or is out of reach.
    """
    folder = at_home(model)
    if not ask(folder.is_dir) or ask((folder / CONFIG_FILE).is_file):
        return _of_model(model)
    try:
        kind, inside = _kind_without_model(folder), _inside(folder)
    except OSError as error:
        raise ModelNotFoundError(f"{model} cannot be read: {error.strerror}") from None
    if kind == "sweep":
        return read_sweep_info(folder)
    if kind == "training":
        return read_training_info(folder)
    if inside:
        shown = ", ".join(each.name for each in inside)
        raise ModelNotFoundError(f"{model} is a folder with {shown} in it: give one of them, such as {inside[0]}")
    return _of_model(model)  # which says what a model lacks


def _of_model(model: str | Path) -> ModelInfo:
    """Return what a model is, with the scores that ``./sweep`` holds of its sizes, or that it was published with."""
    found, pair = read_model_info(model)
    notes: list[str] = []
    swept = known_scores(pair, None, None, notes.append) if pair else None
    if pair is None or swept is None:
        return replace(found, notes=(*found.notes, *notes))
    if found.kind != "patched":  # whose order is the one that it was made in
        found = in_order(found, pair, swept.best)  # as `patch` takes them
    sizes = tuple(replace(size, scores=swept.scores(size.patched_blocks)) for size in found.sizes)
    return replace(found, sizes=sizes, scored_on=swept.data, notes=(*found.notes, *notes))


def _kind_without_model(folder: Path) -> str | None:
    """Return ``sweep`` or ``training`` of a folder that is one, also if its record was left behind on the way."""
    if (folder / RESULTS_FILE).is_file() or (folder / "journal.jsonl").is_file():
        return "sweep"
    return "training" if any(folder.glob("checkpoint-*/progress.json")) else kind_of(folder)


def _inside(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for path in found if (path / CONFIG_FILE).is_file() or _kind_without_model(path)]
