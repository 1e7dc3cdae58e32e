"""The student that a run leaves behind: planned from headers before training, written with the trained weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.checkpoint.tensors import read_header
from boomerang_cli.engine.checkpoint.weights import SINGLE_FILE
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.models.tensor_files import write_tensors
from boomerang_cli.engine.models.whole_tensors import WholeTensors
from boomerang_cli.engine.output.plan import Plan, plan_model
from boomerang_cli.engine.output.writer import write_model
from boomerang_cli.engine.pair.layers import LayerSource
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import StudentConfig
from boomerang_cli.engine.processes.group import rank
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE
from boomerang_cli.engine.sizes import parse_bytes

METRICS_FILE = "metrics.jsonl"
MAX_SHARD_SIZE = "5GB"


def default_output(pair: Pair) -> str:
    """Return where a student is written by itself: one that is trained on takes no other's place."""
    recorded = pair.student_config
    trained = recorded.distillation or recorded.weight_delta or recorded.trained_elsewhere
    return f"{Path(pair.student.name).name}-trained" if trained or PROVENANCE_FILE in pair.student.files else "student"


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
        ends=("student", "student"),
    )
    return with_student_documents(plan, pair, {}, ())


def with_student_documents(
    plan: Plan, pair: Pair, distillation: Mapping[str, Any], log: Iterable[Mapping[str, Any]]
) -> Plan:
    """Return the same plan with the files that say what the student is, and how it was trained.

    Args:
        distillation: recipe, losses and versions; an earlier one of the same student is kept in it as ``before``.
        log: records of the training, one line each.
    """
    before = dict(pair.student_config.distillation)
    if distillation and before:  # a student that is distilled again, such as a size that is healed
        distillation = {**distillation, "before": before}
    recorded: StudentConfig = replace(
        pair.student_config,
        teacher=pair.teacher.name,
        teacher_revision=pair.teacher.revision,
        distillation=distillation,
    )
    plan = plan.with_documents({METRICS_FILE: "".join(json.dumps(record) + "\n" for record in log)})
    return plan.with_student_config(recorded)


def write_weights(model: PreTrainedModel, plan: Plan, scratch: Path) -> OutputError | None:
    """Write a trained model's weights at rank 0, for :func:`write_student`; all processes put them together.

    A tensor, or a layer where files name what transformers holds otherwise, stands whole in memory at a time.

    Returns:
        At rank 0, why they could not be written: the others must not be left waiting for a tensor of this one.
    """
    whole = WholeTensors.of(model, plan.config, [copy.name for copy in plan.copies])
    tensors = whole.each(wanted=rank() == 0)
    try:
        if rank() == 0:
            scratch.mkdir(parents=True, exist_ok=True)
            write_tensors(scratch / SINGLE_FILE, whole.described, tensors)
    except OSError as error:
        return OutputError(f"the trained weights cannot be written to {scratch}: {error.strerror or error}")
    finally:
        for _ in tensors:
            pass
    return None


def write_student(plan: Plan, target: Path, scratch: Path, *, overwrite: bool) -> None:
    """Write ``target`` as planned, with the weights that :func:`write_weights` wrote.

    Raises:
        OutputError: there is no room, or the target cannot be written; nothing of it is left behind.
    """
    try:
        trained = read_header(scratch / SINGLE_FILE)
        write_model(plan.with_tensors(trained), target, "student", overwrite=overwrite)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
