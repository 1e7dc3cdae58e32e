"""``init-student``: a student from its teacher's own layers, ready to be distilled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint, read_checkpoint
from boomerang_cli.engine.checkpoint.dtypes import CONFIG_NAMES, stored_dtype
from boomerang_cli.engine.checkpoint.families import Family, family_of
from boomerang_cli.engine.checkpoint.layer_kinds import check_attention_kept, layer_kinds
from boomerang_cli.engine.checkpoint.parts import check_layers_alike, take_apart
from boomerang_cli.engine.errors import CheckpointError, SelectionError
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.output.output_folder import check_output, check_spares, temporary_folder
from boomerang_cli.engine.output.plan import Plan, as_json_text, plan_model
from boomerang_cli.engine.output.writer import ByteProgress, write_model
from boomerang_cli.engine.pair.layer_mix import LayerKind, kept_layers, mix_of
from boomerang_cli.engine.pair.layers import LayerMap, LayerSource
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, StudentConfig
from boomerang_cli.engine.quiet import quiet_transformers
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
        every: 2 keeps every second layer, 3 every third (FACTS.md 1); where layers differ in kind, in the teacher's
            mix (``pair/layer_mix.py``).
        keep_first, keep_last: the layer rule's numbers; None is the family's.
        keep: the kept layers outright, ascending, starting with 0.
        random_init: draw the weights at random instead of copying them, as transformers initialises them (seed 0).
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the teacher's.
        download: bring a teacher of the Hub whole into the cache, instead of reading there what the student needs.

    Raises:
        BoomerangError: a teacher, layers or an output that cannot be used; nothing is left behind.
    """
    target = Path(output)
    check_output(target, "student-init", overwrite=overwrite, dry_run=dry_run)
    max_shard_bytes, stored = parse_bytes(max_shard_size, "--max-shard-size"), stored_dtype(dtype)
    checkpoint = open_checkpoint(teacher, download=download and not dry_run)
    check_spares(target, checkpoint.folder)
    family = family_of(checkpoint.config, checkpoint.name)
    parts = take_apart(checkpoint, family)
    check_layers_alike(checkpoint, parts)
    kinds = layer_kinds(checkpoint.config, family, checkpoint.name)
    layer_map = _choose_layers(checkpoint, family, kinds, every, keep_first, keep_last, keep)
    check_attention_kept(checkpoint.config, family, layer_map.kept, checkpoint.name)
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
                plan = _with_random_weights(plan, family, folder, max_shard_size)
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


def _choose_layers(
    checkpoint: Checkpoint,
    family: Family,
    kinds: Sequence[str],
    every: int,
    keep_first: int | None,
    keep_last: int | None,
    keep: Sequence[int] | None,
) -> LayerMap:
    depth = len(kinds)
    if keep is not None:
        return LayerMap(depth, tuple(keep))
    first = family.keep_first if keep_first is None else keep_first
    last = family.keep_last if keep_last is None else keep_last
    layer_map = LayerMap(depth, kept_layers(kinds, every=every, keep_first=first, keep_last=last))
    if not layer_map.patchable:
        raise SelectionError(
            f"--every {every}, --keep-first {first}, --keep-last {last} drop none of the {depth} layers "
            f"of {checkpoint.name}: give smaller numbers, or --keep"
        )
    return layer_map


def _with_random_weights(plan: Plan, family: Family, folder: Path, max_shard_size: str) -> Plan:
    """Return the same plan with each tensor drawn anew as transformers initialises it; they stand in ``folder``.

    Raises:
        CheckpointError: the model's class does not have one of the tensors.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForPreTraining

    from boomerang_cli.engine.models.loading import MASKED, as_transformers_config

    settings = as_transformers_config(plan.config)
    # What is trained on masked words is stored with all of its heads, and the pooler.
    kind: Any = AutoModelForPreTraining if settings.model_type in MASKED else AutoModelForCausalLM
    torch.manual_seed(0)
    with quiet_transformers():
        model = kind.from_config(settings, dtype=torch.float32)
        dtypes = {copy.dtype for copy in plan.copies} & CONFIG_NAMES.keys()
        model.to(getattr(torch, CONFIG_NAMES[dtypes.pop()] if len(dtypes) == 1 else "bfloat16"))
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    drawn = read_checkpoint(folder).tensors
    if family.tied_bias and family.tied_bias[1] in drawn:
        drawn = {family.tied_bias[0]: drawn[family.tied_bias[1]], **drawn}
    for copy in plan.copies:
        if copy.name not in drawn:
            raise CheckpointError(
                f"{copy.source.file} holds {copy.source.name}, which {type(model).__name__} of transformers does not "
                "have: it cannot be drawn at random, leave --random-init out"
            )
    return plan.with_tensors(drawn)
