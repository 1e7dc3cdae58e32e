"""The proof that text layers of a multimodal type can be moved, with a text alone and with an image in it.

As in ``family_proof``: what `patch` writes against a teacher whose dropped layers do nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from family_proof import InexactError, disturb, put_together
from tiny_types import VOCABULARY
from tiny_wrappers import image_batch, tiny_wrapper, tiny_wrapper_config
from transformers import AutoModelForImageTextToText, PreTrainedModel

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch

KEPT_SETS = ((0, 1, 2, 4, 5, 7), (0, 1, 3, 6))
MODELS = ((0, "last"), (1, "first"), (1, "last"))


def save_teacher(model_type: str, folder: Path, **top: Any) -> dict[str, Any]:
    """Write a tiny teacher and return its config.json."""
    tiny_wrapper(tiny_wrapper_config(model_type, **top), 1).save_pretrained(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def check_exact(
    teacher: Path,
    kept_sets: Sequence[tuple[int, ...]] = KEPT_SETS,
    models: Sequence[tuple[int, str]] = MODELS,
) -> str:
    """Patch and compare; return what is to be said of images.

    Raises:
        InexactError: the first model whose logits differ.
    """
    whole = load(teacher)
    image = image_batch(whole)
    batches = {"a text": _text(), **({"an image": image} if image else {})}
    for kept in kept_sets:
        student = teacher.parent / f"student-{len(kept)}"
        init_student(teacher, output=student, keep=kept)
        disturb(student)
        small = load(student)
        for number, (layers, order) in enumerate(models):
            output = teacher.parent / f"patched-{len(kept)}-{number}"
            result = patch(layers=layers, order=order, student=student, teacher=teacher, output=output)
            patched = copy.deepcopy(load(output))
            expected = put_together(whole, small, result.plan.sources, _run, only_body=True)
            for what, batch in batches.items():
                differs = (logits(patched, batch) - logits(expected, batch)).abs().max().item()
                if differs != 0:
                    raise InexactError(f"kept {kept}, k = {layers}, {order}: the logits of {what} differ by {differs}")
    return "with an image" if image else "with text alone: no image in the form that it takes was made"


def load(folder: Path) -> PreTrainedModel:
    """Open a folder as any user would, in float32.

    Raises:
        InexactError: weights are missing or left over.
    """
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: value for key, value in loaded[1].items() if value}
    if problems:
        raise InexactError(f"{folder.name} loads with {str(problems)[:200]}")
    model: PreTrainedModel = loaded[0].eval()
    return model


def logits(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**batch, use_cache=False).logits
    return found


def _text() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"input_ids": torch.randint(12, VOCABULARY, (1, 10), generator=generator)}


def _run(model: PreTrainedModel) -> None:
    logits(model, _text())
