"""What a sweep scores with, opened in order: text, the folder that remembers, and then the two models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from boomerang_cli.engine.checkpoint.fingerprint import fingerprint
from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.agreement import check_stages
from boomerang_cli.engine.evaluation.devices import choose_dtype
from boomerang_cli.engine.evaluation.evaluation import Evaluation, StageProgress
from boomerang_cli.engine.evaluation.journal import open_journal
from boomerang_cli.engine.evaluation.placement import find_places, show_places
from boomerang_cli.engine.evaluation.prompts import Questions
from boomerang_cli.engine.evaluation.scoring import is_out_of_memory
from boomerang_cli.engine.evaluation.texts import Texts
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.models.places import Places
from boomerang_cli.engine.output.output_folder import check_spares, check_writable
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.group import decide, rank
from boomerang_cli.engine.publishing.versions import versions


@contextmanager
def open_evaluation(
    pair: Pair,
    texts: Texts,
    questions: Questions,
    folder: Path,
    *,
    dtype: str = "auto",
    devices: Sequence[torch.device],
    batch_size: int | None = None,
    overwrite: bool = False,
    tell: StageProgress,
    on_note: Callable[[str], None],
) -> Iterator[Evaluation]:
    """Yield what scores the models of a pair, and remembers in ``folder``; of several processes, at rank 0.

    Args:
        dtype: ``auto`` is bfloat16 on a GPU, float32 on the CPU.
        devices: of this process; layers are spread over as many of them as both models need.

    Raises:
        DataError: text that is too short or cannot be read.
        OutputError: the folder holds something else, or cannot be written.
        CheckpointError, UnsupportedModelError: models that cannot be loaded.
        ScoringError: no such device, or it has too little memory.
    """
    if devices[0].type == "cuda" and devices[0].index is not None:
        torch.cuda.set_device(devices[0])  # what names none would take memory of the first, which is another process's
    number = choose_dtype(dtype, devices[0])
    places = find_places(pair, number, devices)
    if (note := show_places(places)) and rank() == 0:
        on_note(note)
    tell("Reading text", 0, 1)
    data = decide(lambda: texts.read_data(questions.tokenizer))
    calibration = decide(lambda: texts.read_calibration(questions.tokenizer, data))
    made_with = versions()
    identity = {
        "student": fingerprint(pair.student),
        "teacher": fingerprint(pair.teacher),
        "kept_layers": list(pair.layer_map.kept),
        "text": data and data.digest,
        "calibration_text": calibration.digest if calibration and texts.calibration else None,
        "dtype": str(number).removeprefix("torch."),
        "device": devices[0].type,
        **questions.identity,
        **{f"{name}_version": made_with.get(name) for name in ("boomerang", "torch", "transformers")},
    }
    if overwrite:
        check_spares(folder, pair.student.folder, pair.teacher.folder)
    tell("Loading both models", 0, 1)
    # What another sweep found goes, and a folder is made, only once nothing of the models can be refused any more.
    loaded = None
    if is_new := decide(lambda: not folder.exists()):
        check_writable(folder)
    if overwrite or is_new:
        loaded = _load(pair, number, devices[0], places)
    with open_journal(folder, identity, overwrite=overwrite) as record:
        loaded = loaded or _load(pair, number, devices[0], places)
        evaluation = Evaluation(
            loaded,
            questions.tokenizer,
            record,
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


def _load(pair: Pair, dtype: torch.dtype, device: torch.device, places: Places | None) -> LoadedPair:
    try:
        loaded = load_pair(pair, dtype=dtype, device=device, places=places)
        check_stages(loaded)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ScoringError(
            f"{device} has too little memory for both models: give --gpus 2, --dtype bfloat16, or --device cpu"
        ) from None
    return loaded
