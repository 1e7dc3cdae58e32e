"""``init-student``: a student from its teacher's own layers, ready to be distilled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.layer_kinds import layer_kinds
from boomerang_cli.engine.checkpoint.parts import check_layers_alike, take_apart
from boomerang_cli.engine.models.random_weights import with_random_weights
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.output.output_folder import check_output, check_spares, temporary_folder
from boomerang_cli.engine.output.plan import Plan, as_json_text, plan_model
from boomerang_cli.engine.output.writer import ByteProgress, write_model
from boomerang_cli.engine.pair.kept_layers import choose_layers
from boomerang_cli.engine.pair.layer_mix import LayerKind, mix_of
from boomerang_cli.engine.pair.layers import LayerSource
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, StudentConfig
from boomerang_cli.engine.sizes import parse_bytes


@dataclass(frozen=True)
class InitStudentResult:
    """The student that was written, or would be.

    Attributes:
        patchable_blocks: their number, n: students of n + 1 sizes lie between this one and the teacher, both included.
        parameters, bytes: of the student.
        layer_kinds: how many layers of each kind teacher and student have; empty if all layers are of one kind.
    """

    path: Path
    teacher: str
    copied_teacher_layers: tuple[int, ...]
    pruned_teacher_layers: tuple[int, ...]
    teacher_layers: int
    student_layers: int
    patchable_blocks: int
    parameters: int
    teacher_parameters: int
    bytes: int
    layer_kinds: tuple[LayerKind, ...]
    plan: Plan


def init_student(
    teacher: str | Path,
    *,
    output: str | Path = "student-init",
    every: int = 2,
    keep_first: int | None = None,
    keep_last: int | None = None,
    keep: Sequence[int] | None = None,
    random_init: bool = False,
    dtype: str = "auto",
    max_shard_size: str = "5GB",
    download: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: ByteProgress | None = None,
) -> InitStudentResult:
    """Write a student that copies some layers of ``teacher``, and its embedding, final norm and head.

    Args:
        teacher: a folder, ``owner/name[@revision]`` on the Hub, or ``builtin:demo``.
        output: the folder to write.
        every: 2 keeps every second layer, 3 every third; 2 at least. Layers of several kinds keep the teacher's mix.
        keep_first: how many layers are kept at the start, 1 at least; None is the family's: 2 of Llama, 1 of others.
        keep_last: how many are kept at the end, 1 at least; None is the family's: 1 of Llama, 2 of others.
        keep: the kept layers outright, ascending, starting with 0; the three numbers before it then mean nothing.
        random_init: draw the weights at random instead of copying them, as transformers initialises them (seed 0).
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the teacher's.
        max_shard_size: the most bytes of one file of weights: ``"5GB"`` (decimal), ``"4GiB"`` (binary).
        download: bring a teacher of the Hub whole into the cache, instead of reading there what the student needs.
        overwrite: replace an earlier output of this function; no other folder is ever replaced.
        dry_run: return the plan, from headers alone, and write nothing.
        on_progress: called with the bytes written so far, and all bytes to write.

    Raises:
        ModelNotFoundError: no such teacher.
        CheckpointError: model files that are incomplete, corrupt, or contradict each other.
        UnsupportedModelError: an unknown family, or quantised weights.
        SelectionError: layers that the teacher does not have, a rule that drops none, an unknown dtype or size.
        OutputError: the output exists, or cannot be written; nothing is left behind.
        HubError: the Hub refuses, fails, or is out of reach.
    """
    target = Path(output)
    check_output(target, "student-init", overwrite=overwrite, dry_run=dry_run)
    max_shard_bytes, stored = parse_bytes(max_shard_size, "--max-shard-size"), stored_dtype(dtype)
    checkpoint = open_checkpoint(teacher, download=download and not dry_run)
    check_spares(target, checkpoint.folder)
    family = family_of(checkpoint)
    parts = take_apart(checkpoint, family)
    check_layers_alike(checkpoint, family, parts)
    kinds = layer_kinds(checkpoint.config, family, checkpoint.name)
    layer_map = choose_layers(
        checkpoint, family, kinds, every=every, keep_first=keep_first, keep_last=keep_last, keep=keep
    )
    plan = plan_model(
        [LayerSource("teacher", layer, layer) for layer in layer_map.kept],
        teacher=checkpoint,
        family=family,
        parts={"teacher": parts},
        dtype=stored,
        max_shard_bytes=max_shard_bytes,
    )
    recorded = StudentConfig(layer_map, teacher=checkpoint.name, teacher_revision=checkpoint.revision)
    plan = plan.with_documents({STUDENT_CONFIG_FILE: as_json_text(recorded.as_json())})
    plan = arrange_for_sharing(plan, target)
    if not dry_run:
        with temporary_folder() as folder:
            if random_init:
                plan = with_random_weights(plan, family, folder, max_shard_size)
            write_model(plan, target, "student-init", overwrite=overwrite, on_progress=on_progress)
    return InitStudentResult(
        path=target,
        teacher=checkpoint.name,
        copied_teacher_layers=layer_map.kept,
        pruned_teacher_layers=layer_map.pruned,
        teacher_layers=layer_map.teacher_layers,
        student_layers=layer_map.student_layers,
        patchable_blocks=len(layer_map.patchable),
        parameters=plan.parameters,
        teacher_parameters=parts.parameters,
        bytes=plan.size_bytes,
        layer_kinds=mix_of(kinds, layer_map.kept),
        plan=plan,
    )
