"""What a sweep scores with, opened in order: text, the folder that remembers, and then the two models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from boomerang_cli.engine.checkpoint.fingerprint import fingerprint
from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.agreement import check_stages
from boomerang_cli.engine.evaluation.evaluation import Evaluation, StageProgress
from boomerang_cli.engine.evaluation.journal import Journal
from boomerang_cli.engine.evaluation.prompts import Questions
from boomerang_cli.engine.evaluation.scoring import is_out_of_memory
from boomerang_cli.engine.evaluation.texts import Texts
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.output.output_folder import check_spares, check_writable
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.publishing.versions import versions


@contextmanager
def open_evaluation(
    pair: Pair,
    texts: Texts,
    questions: Questions,
    folder: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    overwrite: bool = False,
    on_progress: StageProgress | None = None,
) -> Iterator[Evaluation]:
    """Yield what scores the models of a pair, and remembers in ``folder``.

    Args:
        dtype, device: ``auto`` is a GPU in bfloat16 where there is one, else the CPU in float32.

    Raises:
        DataError: text that is too short or cannot be read.
        OutputError: the folder holds something else, or cannot be written.
        CheckpointError, UnsupportedModelError: models that cannot be loaded.
        ScoringError: no such device, or it has too little memory.
    """
    place = choose_device(device)
    number = choose_dtype(dtype, place)
    tell = on_progress or (lambda stage, done, total: None)
    tell("Reading text", 0, 1)
    data = texts.read_data(questions.tokenizer)
    calibration = texts.read_calibration(questions.tokenizer, data)
    made_with = versions()
    identity = {
        "student": fingerprint(pair.student),
        "teacher": fingerprint(pair.teacher),
        "kept_layers": list(pair.layer_map.kept),
        "text": data and data.digest,
        "calibration_text": calibration.digest if calibration and texts.calibration else None,
        "dtype": str(number).removeprefix("torch."),
        "device": place.type,
        **questions.identity,
        **{f"{name}_version": made_with.get(name) for name in ("boomerang", "torch", "transformers")},
    }
    if overwrite:
        check_spares(folder, pair.student.folder, pair.teacher.folder)
    tell("Loading both models", 0, 1)
    # What another sweep found goes, and a folder is made, only once nothing of the models can be refused any more.
    loaded = None
    if not folder.exists():
        check_writable(folder)
    if overwrite or not folder.exists():
        loaded = _load(pair, number, place)
    with Journal(folder, identity, overwrite=overwrite) as journal:
        loaded = loaded or _load(pair, number, place)
        evaluation = Evaluation(
            loaded,
            questions.tokenizer,
            journal,
            data=data,
            calibration=calibration,
            prompts=questions.prompts,
            batch_size=batch_size,
            tell=tell,
        )
        try:
            yield evaluation
        except KeyboardInterrupt:
            message = f"interrupted: what is known is kept in {folder}, and the same command goes on from there"
            raise KeyboardInterrupt(message) from None


def _load(pair: Pair, dtype: torch.dtype, device: torch.device) -> LoadedPair:
    try:
        loaded = load_pair(pair, dtype=dtype, device=device)
        check_stages(loaded)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ScoringError(
            f"{device} has too little memory for both models: give --dtype bfloat16, or --device cpu"
        ) from None
    return loaded


def choose_device(name: str) -> torch.device:
    """Return the device of a name, or for ``auto`` the best there is.

    Raises:
        ScoringError: torch has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ScoringError(f"--device {name} is not there: give cpu, or leave it out") from None
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a name; ``auto`` is float32 on the CPU, where half precision is slow, else bfloat16."""
    if name == "auto":
        name = "float32" if device.type == "cpu" else "bfloat16"
    dtype: torch.dtype = getattr(torch, name)
    return dtype
