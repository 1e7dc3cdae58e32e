"""The student that a run leaves behind: planned from headers before training, written with the trained weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, read_checkpoint
from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.models.saving import save_by_names
from boomerang_cli.engine.output.plan import Plan, as_json_text, plan_model
from boomerang_cli.engine.output.writer import write_model
from boomerang_cli.engine.pair.layers import LayerSource
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, StudentConfig
from boomerang_cli.engine.quiet import quiet_transformers
from boomerang_cli.engine.sizes import parse_bytes

METRICS_FILE = "metrics.jsonl"
MAX_SHARD_SIZE = "5GB"


def plan_student(pair: Pair, dtype: str = "auto") -> Plan:
    """Plan the distilled student: the undistilled one's tensors, in the teacher's names and configuration.

    Args:
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the undistilled student's.

    Raises:
        SelectionError: an unknown dtype.
    """
    plan = plan_model(
        [LayerSource("student", index, layer) for index, layer in enumerate(pair.layer_map.kept)],
        teacher=pair.teacher,
        family=pair.family,
        parts={"student": pair.parts["student"]},
        dtype=stored_dtype(dtype),
        max_shard_bytes=parse_bytes(MAX_SHARD_SIZE, "--max-shard-size"),
    )
    return plan.with_documents(student_documents(pair, {}, ()))


def student_documents(pair: Pair, distillation: Mapping[str, Any], log: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the content of the files that say what the student is, and how it was trained.

    Args:
        distillation: recipe, losses and versions.
        log: records of the training, one line each.
    """
    recorded: StudentConfig = replace(
        pair.student_config,
        teacher=pair.teacher.name,
        teacher_revision=pair.teacher.revision,
        distillation=distillation,
    )
    return {
        STUDENT_CONFIG_FILE: as_json_text(recorded.as_json()),
        METRICS_FILE: "".join(json.dumps(record) + "\n" for record in log),
    }


def write_student(
    tensors: dict[str, torch.Tensor], plan: Plan, target: Path, scratch: Path, *, overwrite: bool
) -> None:
    """Write ``target`` as planned, with trained weights.

    Args:
        tensors: of the whole model, on the CPU, by parameter name; they are given up one after the other.
        scratch: a folder on the same disk, for as many bytes as ``tensors`` hold.

    Raises:
        OutputError: there is no room, or the target cannot be written; nothing of it is left behind.
    """
    try:
        trained = _save(tensors, plan, scratch)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OutputError(f"the trained weights cannot be written to {scratch}: {reason}") from None
    else:
        write_model(plan.with_tensors(trained.tensors), target, "student", overwrite=overwrite)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _save(tensors: dict[str, torch.Tensor], plan: Plan, folder: Path) -> Checkpoint:
    """Write weights under the names that the undistilled student's files have, which transformers alone knows.

    Through a model without memory of its own: the trained one may be split over processes.
    """
    with quiet_transformers():
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(as_transformers_config(plan.config))  # type: ignore[no-untyped-call]
        model.load_state_dict(tensors, assign=True, strict=False)
        model.tie_weights()
        save_by_names(model, folder, [copy.name for copy in plan.copies], MAX_SHARD_SIZE)
    return read_checkpoint(folder)
