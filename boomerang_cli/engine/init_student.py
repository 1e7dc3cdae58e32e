"""``init-student``: a student from its teacher's own layers, ready to be distilled, or with another's weight delta."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from boomerang_cli.engine.checkpoint.dtypes import stored_dtype
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.layer_kinds import layer_kinds
from boomerang_cli.engine.checkpoint.parts import Parts, check_layers_alike, take_apart
from boomerang_cli.engine.errors import SelectionError, flag_of
from boomerang_cli.engine.models.random_weights import with_random_weights
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.output.delta_plan import add_delta, teacher_parts
from boomerang_cli.engine.output.output_folder import check_output, check_spares, temporary_folder
from boomerang_cli.engine.output.output_marker import Kind
from boomerang_cli.engine.output.plan import Plan, plan_model
from boomerang_cli.engine.output.writer import ByteProgress, write_model
from boomerang_cli.engine.pair.delta import Delta, check_scale, open_compared, open_delta
from boomerang_cli.engine.pair.kept_layers import choose_layers
from boomerang_cli.engine.pair.layer_mix import LayerKind, mix_of
from boomerang_cli.engine.pair.layers import LayerMap, LayerSource
from boomerang_cli.engine.pair.misread_sizes import misread_sizes
from boomerang_cli.engine.pair.student_config import StudentConfig, WeightDelta
from boomerang_cli.engine.publishing.card import delta_documents
from boomerang_cli.engine.sizes import parse_bytes

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.forecast import Forecast
    from boomerang_cli.engine.output.verify import Verification


@dataclass(frozen=True, repr=False)
class InitStudentResult(Brief):
    """The student that was written, or would be.

    Attributes:
        patchable_blocks: their number, n: students of n + 1 sizes lie between this one and the teacher, both included.
        parameters, bytes: of the student.
        portable: whether llama.cpp and MLX LM, too, read the student as transformers does, as far as is known.
        misread_sizes: the programs that misread sizes below the teacher, and not it, by what they suppose of layers.
        layer_kinds: how many layers of each kind teacher and student have; empty if all layers are of one kind.
        weight_delta: what was added to the teacher's layers; None without ``delta``.
        forecast: how well that will do; None without ``compare``.
        verified: what was read again and compared.
    """

    brief = ("path", "teacher", "teacher_layers", "student_layers", "patchable_blocks", "parameters", "bytes")

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
    portable: bool
    misread_sizes: Mapping[str, tuple[str, ...]]
    layer_kinds: tuple[LayerKind, ...]
    weight_delta: WeightDelta | None
    forecast: Forecast | None
    verified: Verification | None
    plan: Plan


def init_student(
    teacher: str | Path,
    *,
    delta: str | Path | None = None,
    base: str | Path | None = None,
    delta_scale: float = 1.0,
    compare: str | Path | None = None,
    output: str | Path | None = None,
    every: int | None = None,
    keep_first: int | None = None,
    keep_last: int | None = None,
    keep_period: bool = False,
    keep: Sequence[int] | None = None,
    random_init: bool = False,
    dtype: str = "auto",
    max_shard_size: str = "5GB",
    download: bool = False,
    verify: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: ByteProgress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> InitStudentResult:
    """Write a student that copies some layers of ``teacher``, and its embedding, final norm and head.

    With ``delta``, what distilling made of another student is added to it: ``teacher + scale * (delta - base)``, tensor
    by tensor in float32, rounded once (weight-delta initialisation, arXiv 2608.22854). So one distilled student makes
    one of every post-trained variant of its own teacher, the base, with no training.

    Args:
        teacher (str | Path): a folder, ``owner/name[@revision]`` on the Hub, or ``builtin:demo``.
        delta (str | Path, optional): a student that was distilled from a model of the teacher's family and shapes; it
            decides which layers are kept. Tensors that teacher and base share are the student's, as they are; scale 0
            is the plain student.
        base (str | Path, optional): the teacher that it was distilled from; None is what it records, else that of a
            published student.
        delta_scale (float, default 1.0): what the difference is multiplied with.
        compare (str | Path, optional): a student that was distilled from ``teacher`` itself: its own delta is compared
            with the other, in one pass over the bytes of all four models, which forecasts how well that will do.
        output (str | Path, optional): the folder to write; None is ``student-init``, with ``delta`` ``student``: it is
            a finished one.
        every (int, optional): 2 keeps every second layer, 3 every third; 2 at least, and if it is None. Layers of
            several kinds keep the teacher's mix.
        keep_first (int, optional): how many layers are kept at the start, 1 at least; None is the family's: 2 of Llama,
            1 of others.
        keep_last (int, optional): how many are kept at the end, 1 at least; None is the family's: 1 of Llama, 2 of
            others.
        keep_period (bool, default False): drop whole periods of layers, where these differ in kind by one (every 6th of
            full attention, say), so that it holds at every size, for programs that suppose it; else each kind keeps its
            share.
        keep (Sequence[int], optional): the kept layers outright, ascending, starting with 0; the four before it then
            mean nothing.
        random_init (bool, default False): draw the weights at random instead of copying them, as transformers
            initialises them (seed 0).
        dtype (str, default "auto"): ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the teacher's.
        max_shard_size (str, default "5GB"): the most bytes of one file of weights: ``"5GB"`` (decimal), ``"4GiB"``
            (binary).
        download (bool, default False): bring models of the Hub whole into the cache, instead of reading there what the
            student needs.
        verify (bool, default False): read the student again and compare each byte with its sources before it takes its
            place.
        overwrite (bool, default False): replace an earlier output of this function; no other folder is ever replaced.
        dry_run (bool, default False): return the plan, from headers alone, and write nothing; ``compare`` reads weights
            all the same.
        on_progress (Callable[[int, int], None], optional): called with the bytes compared, then written so far, and all
            bytes to compare or write.
        on_note (Callable[[str], None], optional): called with what is not as might be expected, such as a base that
            ``delta`` does not record.

    Returns:
        An ``InitStudentResult``: ``path copied_teacher_layers student_layers patchable_blocks parameters`` and more.

    Raises:
        ModelNotFoundError: no such teacher, or another model that is named; no base that is known.
        CheckpointError: model files that are incomplete, corrupt, or contradict each other.
        UnsupportedModelError: an unknown family, or quantised weights.
        PairError: a ``delta``, its base and ``teacher`` that do not belong together, or a ``delta`` that is no student.
        SelectionError: layers that the teacher does not have, a rule that drops none, an unknown dtype or size, options
            that exclude one another.
        OutputError: the output exists, or cannot be written, or a number of it is not finite; nothing is left behind.
        HubError: the Hub refuses, fails, or is out of reach.
    """
    rule = {"every": every, "keep_first": keep_first, "keep_last": keep_last, "keep": keep}
    rule["keep_period"] = keep_period or None
    _check_options(delta, random_init, rule, {"base": base, "compare": compare}, delta_scale)
    kind: Kind = "student-init" if delta is None else "student"
    target = Path(output or kind)
    check_output(target, kind, overwrite=overwrite, dry_run=dry_run)
    max_shard_bytes, stored = parse_bytes(max_shard_size, "--max-shard-size"), stored_dtype(dtype)
    download = download and not dry_run
    checkpoint = open_checkpoint(teacher, download=download)
    check_spares(target, checkpoint.folder)
    family = family_of(checkpoint)
    parts = take_apart(checkpoint, family)
    check_layers_alike(checkpoint, family, parts)
    kinds = layer_kinds(checkpoint.config, family, checkpoint.name)
    if delta is None:
        added = None
        layer_map = choose_layers(
            checkpoint,
            family,
            kinds,
            every=2 if every is None else every,
            keep_first=keep_first,
            keep_last=keep_last,
            keep=keep,
            keep_period=keep_period,
        )
    else:
        added = open_delta(delta, base, checkpoint, parts, scale=delta_scale, download=download)
        check_spares(target, added.pair.student.folder, added.pair.teacher.folder)
        if base is not None and added.other_base:
            on_note(added.other_base)
        layer_map = added.layer_map
    plan = _plan(checkpoint, family, parts, layer_map, added, target.name, stored, max_shard_bytes)
    plan = arrange_for_sharing(plan, target)
    forecast = _compare(compare, added, checkpoint, parts, download, on_progress)
    verified = None
    if not dry_run:
        with temporary_folder() as folder:
            if random_init:
                plan = with_random_weights(plan, family, folder, max_shard_size)
            verified = write_model(
                plan, target, kind, verify=verify, overwrite=overwrite, durable=verify, on_progress=on_progress
            )
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
        portable=plan.portable,
        misread_sizes=misread_sizes(checkpoint, family, layer_map),
        layer_kinds=mix_of(kinds, layer_map.kept),
        weight_delta=None if added is None else added.recorded(),
        forecast=forecast,
        verified=verified,
        plan=plan,
    )


def _check_options(
    delta: str | Path | None,
    random_init: bool,
    rule: Mapping[str, object],
    of_delta: Mapping[str, object],
    scale: float,
) -> None:
    """Refuse options that mean nothing together.

    Args:
        rule: what chooses the kept layers, by name; None is not given.
        of_delta: what belongs to a delta, by name.
    """
    check_scale(scale)
    if rule["keep"] is not None and rule["keep_period"]:
        raise SelectionError("--keep-period and --keep exclude one another: give one of them", usage=True)
    if delta is None:
        given = [name for name, value in of_delta.items() if value is not None]
        if given or scale != 1:
            flag = flag_of(given[0] if given else "delta_scale")
            raise SelectionError(f"{flag} belongs to --delta STUDENT, which is not given", usage=True)
        return
    if random_init:
        raise SelectionError(
            "--random-init and --delta exclude one another: a delta is added to the teacher's weights", usage=True
        )
    if given := [flag_of(name) for name, value in rule.items() if value is not None]:
        raise SelectionError(
            f"{given[0]} and --delta exclude one another: the delta's student decides what is kept", usage=True
        )


def _plan(
    teacher: Checkpoint,
    family: Family,
    parts: Parts,
    layer_map: LayerMap,
    added: Delta | None,
    name: str,
    dtype: str | None,
    max_shard_bytes: int,
) -> Plan:
    """Plan the student and its documents.

    Args:
        parts: the teacher's.
        name: the folder's, for a card.
    """
    plan = plan_model(
        [LayerSource("teacher", layer, layer) for layer in layer_map.kept],
        teacher=teacher,
        family=family,
        parts={"teacher": parts if added is None else teacher_parts(parts, family, added)},
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
        ends=("teacher", "teacher"),
    )
    recorded = StudentConfig(layer_map, teacher=teacher.name, teacher_revision=teacher.revision)
    if added is None:
        return plan.with_student_config(recorded)
    recorded = replace(recorded, order=added.pair.student_config.order, weight_delta=added.recorded().as_json())
    plan = add_delta(plan, added).with_student_config(recorded)
    return plan.with_documents(delta_documents(plan, teacher, parts, added, name=name))


def _compare(
    compare: str | Path | None,
    added: Delta | None,
    teacher: Checkpoint,
    parts: Parts,
    download: bool,
    on_progress: ByteProgress | None,
) -> Forecast | None:
    if compare is None or added is None:
        return None
    from boomerang_cli.engine.evaluation.forecast import forecast

    other = open_compared(compare, added, teacher, added.pair.family, download=download)
    return forecast(added, parts, other, on_progress=on_progress)
