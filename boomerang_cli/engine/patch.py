"""``patch``: a model of any size between a student and its teacher, from their files, with no training."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.hub_reading import check_repo_id
from boomerang_cli.engine.errors import OutputError, SelectionError
from boomerang_cli.engine.evaluation.choice import choose_model
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.output.output_folder import check_output, check_spares, temporary_folder
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.output.writer import ByteProgress, write_model
from boomerang_cli.engine.pair.bounds import Use, read_bounds
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.pair.patched_config import patched_config
from boomerang_cli.engine.pair.selection import Selection
from boomerang_cli.engine.publishing.card import model_documents
from boomerang_cli.engine.publishing.provenance import layer_sources

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.menu import MenuRow
    from boomerang_cli.engine.output.memory import Memory
    from boomerang_cli.engine.output.verify import Verification
    from boomerang_cli.engine.push import PushResult


@dataclass(frozen=True, repr=False)
class PatchResult(Brief):
    """The model that was written, or would be.

    Attributes:
        path: its folder; None if it went to the Hub.
        layers: k, the number of patched blocks.
        depth: the number of layers of the model.
        bytes: of all tensors.
        dtype: that of most of them, as ``config.json`` names it.
        order: its name; None where the blocks were named one by one.
        portable: whether llama.cpp and MLX LM, too, read it as transformers does, as far as is known.
        misreaders: the programs that do not, by what they suppose of it.
        sources: ``owner`` and ``index`` there of each layer.
        seconds: from start to end.
        pushed: where it is on the Hub.
        verified: what was read again and compared.
        scores: what a sweep says of it, where one is known.
        memory: what it takes where it is used; None without ``memory``.
        menu: with ``dry_run``, all sizes to choose from.
    """

    brief = ("path", "pushed", "layers", "depth", "parameters", "bytes", "dtype", "order", "patched_blocks", "scores")

    path: Path | None
    layers: int
    depth: int
    parameters: int
    student_parameters: int
    teacher_parameters: int
    bytes: int
    dtype: str
    order: str | None
    patched_blocks: tuple[int, ...]
    tied_embeddings: bool
    portable: bool
    misreaders: Mapping[str, tuple[str, ...]]
    sources: list[dict[str, Owner | int]]
    seconds: float
    pushed: PushResult | None
    verified: Verification | None
    plan: Plan
    scores: Mapping[str, float]
    memory: Memory | None
    menu: tuple[MenuRow, ...]


def patch(
    *,
    layers: int | None = None,
    depth: int | None = None,
    params: str | None = None,
    size: str | None = None,
    memory: str | None = None,
    context: int | None = None,
    batch: int | None = None,
    weights_bits: float | None = None,
    max_kl: float | None = None,
    max_perplexity: float | None = None,
    min_top1: float | None = None,
    min_speed: float | None = None,
    blocks: Sequence[int] | None = None,
    order: str | None = None,
    results: str | Path | None = None,
    student: str | Path | None = None,
    teacher: str | Path | None = None,
    keep: Sequence[int] | None = None,
    output: str | Path | None = None,
    dtype: str = "auto",
    max_shard_size: str = "5GB",
    download: bool = False,
    push: str | None = None,
    private: bool = False,
    verify: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: ByteProgress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> PatchResult:
    """Write the model that has the teacher's blocks in place of some of the student's layers; nothing is trained.

    A block holds the teacher layers that one student layer stands for; the n blocks of more than one layer can be
    patched. Bytes are copied, never computed, unless a dtype changes. The result is a student itself: it can be
    distilled for a few steps more, and patched further.

    Args:
        layers (int, optional): k, how many blocks are patched: 0 (the student) to n (the teacher). Give one of
            ``layers``, ``depth``, ``blocks``, or bounds: the best model that keeps all of them is written, the closest
            to the teacher by the scores of a sweep, else the largest. Bounds of quality alone ask for the smallest.
        depth (int, optional): the number of layers of the result.
        params (str, optional): a bound, at most so many parameters: ``"2B"``, ``"410M"``.
        size (str, optional): a bound, at most so many bytes: ``"4GB"`` (decimal), ``"4GiB"`` (binary).
        memory (str, optional): a bound, at most so many bytes (``"8GB"``) where it runs: the weights, a cache of
            ``batch`` sequences of ``context`` tokens, and a tenth of the whole in reserve.
        context (int, optional): tokens of a sequence that the cache is for; None is 4096, or what the model has
            positions for.
        batch (int, optional): sequences at once; None is 1.
        weights_bits (float, optional): bits of a parameter once the weights are quantised, such as 4.85; None is as
            they are stored.
        max_kl, max_perplexity, min_top1 (float, optional): bounds of quality by the scores of a sweep; KL in nats a
            token, ``top1`` a share.
        min_speed (float, optional): a bound, at least so many tokens per second written, one sequence at a time, as
            ``sweep --speed`` measured them.
        blocks (Sequence[int], optional): the patched blocks outright, counted from 0 by the student's layers.
        order (str, optional): which blocks are patched first: ``first`` (from the start), ``last`` (from the end),
            ``auto`` (what the student records, else the family's), one that the sweep searched, such as ``greedy``, or
            the path of an order file, a sweep's ``order.json`` or a JSON list of blocks. None is the best of the sweep,
            and with bounds all of its orders; without a sweep ``auto``.
        results (str | Path, optional): the folder of a sweep of this pair; None is that of an order file, else
            ``./sweep`` if it scored these very files, else the scores that a student on the Hub was published with.
        student (str | Path, optional): a folder or ``owner/name[@revision]`` on the Hub, of a patched model too. None
            is BOOMERANG_STUDENT, else the current folder if it is a student, else ``./student``.
        teacher (str | Path, optional): a folder, or ``owner/name[@revision]`` on the Hub. None is BOOMERANG_TEACHER,
            else what the student records, else that of a published student.
        keep (Sequence[int], optional): the teacher layers that the student copied, ascending from 0; for a student
            that does not record them.
        output (str | Path, optional): the folder to write; None is ``patched-<depth>L``.
        dtype (str, default "auto"): ``float32``, ``bfloat16`` or ``float16``. ``auto`` is that of both models, or
            ``bfloat16`` where theirs differ.
        max_shard_size (str, default "5GB"): the most bytes of one file of weights: ``"5GB"``, ``"5GiB"``.
        download (bool, default False): bring models of the Hub whole into the cache, instead of reading there the bytes
            that are needed.
        push (str, optional): the repository on the Hub, ``owner/name``, to write to instead of the disk; excludes
            ``output``.
        private (bool, default False): make that repository private if it is new.
        verify (bool, default False): compare each layer, as transformers would build it, with its origin in the teacher
            before anything is written; then read the model again and compare each byte with its source before it takes
            its place, as is always done with ``push``.
        overwrite (bool, default False): replace an earlier output of this function; no other folder is ever replaced.
        dry_run (bool, default False): return the plan, from headers alone, and write nothing.
        on_progress (Callable[[int, int], None], optional): called with the bytes written so far, and all bytes to
            write.
        on_note (Callable[[str], None], optional): called with what is taken from a sweep, or why nothing is.

    Returns:
        A ``PatchResult``: ``path layers depth parameters bytes dtype order patched_blocks sources scores`` and more.

    Raises:
        ModelNotFoundError: a student or teacher that is not there; says which parameter to give.
        CheckpointError: model files that are incomplete, corrupt, or contradict each other.
        UnsupportedModelError: an unknown family, or quantised weights.
        PairError: a student and a teacher that do not belong together.
        SelectionError: no selection or several, a size that the pair does not have, bounds that no size keeps or that
            need scores, an order or a sweep of another student, an unknown dtype.
        OutputError: the output exists, or cannot be written; nothing is left behind.
        HubError: the Hub refuses, fails, or is out of reach.
    """
    started = time.monotonic()
    use = Use.of(memory, context, batch, weights_bits)
    bounds = read_bounds(
        params=params,
        size=size,
        memory=memory,
        min_speed=min_speed,
        max_kl=max_kl,
        max_perplexity=max_perplexity,
        min_top1=min_top1,
    )
    selection = Selection(layers, depth, blocks, bounds)
    if push is not None:
        from boomerang_cli.engine.checkpoint.hub_address import named_by_address

        push = named_by_address(push)
        check_repo_id(push)
    if push is not None and output is not None:
        raise SelectionError("--push writes to the Hub and --output to the disk: give one of them", usage=True)
    if private and push is None:
        raise SelectionError("--private is for a repository: give --push REPO_ID with it", usage=True)
    if output is not None:
        check_output(Path(output), "patched", overwrite=overwrite, dry_run=dry_run)
    pair = open_pair(student, teacher, keep=keep, download=download and not dry_run)
    planner = Planner(pair, dtype=dtype, max_shard_size=max_shard_size)
    chosen = choose_model(selection, planner, order=order, results=results, use=use, with_menu=dry_run, on_note=on_note)
    patched, found, named = chosen.blocks, chosen.order, chosen.named
    plan = planner.plan(patched)
    if verify:
        from boomerang_cli.engine.models.same_layers import check_plans

        check_plans([plan], pair.teacher, pair.family)
    target = Path(output or f"patched-{len(plan.sources)}L")
    if push is None:
        check_output(target, "patched", overwrite=overwrite, dry_run=dry_run)
        check_spares(target, pair.student.folder, pair.teacher.folder)
    plan = plan.with_documents(model_documents(plan, pair, order=named, patched_blocks=patched, name=target.name))
    plan = plan.with_student_config(patched_config(pair, patched, found))
    pushed = verified = None
    if push is None:
        plan = arrange_for_sharing(plan, target)
        if not dry_run:
            verified = write_model(
                plan,
                target,
                "patched",
                verify=verify,
                overwrite=overwrite,
                durable=verify,
                on_progress=on_progress,
            )
    elif not dry_run:
        pushed, verified = _write_to_hub(plan, push, private=private, on_progress=on_progress)
    if pair.warning:
        on_note(pair.warning)
    return PatchResult(
        path=target if push is None else None,
        layers=len(patched),
        depth=len(plan.sources),
        parameters=plan.parameters,
        student_parameters=pair.parts["student"].parameters,
        teacher_parameters=pair.parts["teacher"].parameters,
        bytes=plan.size_bytes,
        dtype=plan.dtype,
        order=named,
        patched_blocks=patched,
        tied_embeddings=plan.tied,
        portable=plan.portable,
        misreaders=plan.misreaders,
        sources=layer_sources(plan),
        seconds=time.monotonic() - started,
        pushed=pushed,
        verified=verified,
        plan=plan,
        scores=chosen.scores,
        memory=chosen.memory,
        menu=chosen.menu if dry_run else (),
    )


def _write_to_hub(
    plan: Plan, repo_id: str, *, private: bool, on_progress: ByteProgress | None
) -> tuple[PushResult, Verification | None]:
    """Write a model to a folder that is removed in any case, and send it from there."""
    from boomerang_cli.engine.publishing.upload import Destination, check_token
    from boomerang_cli.engine.push import push_model

    check_token(repo_id)  # before gigabytes are moved
    with temporary_folder() as folder:
        if plan.size_bytes > (free := shutil.disk_usage(folder).free):
            raise OutputError(
                f"the model has {plan.size_bytes:,} bytes on its way to {repo_id}, and {folder.parent} has {free:,} "
                "free: make room, or set TMPDIR to a larger disk"
            )
        verified = write_model(plan, folder / "model", "patched", verify=True, on_progress=on_progress)
        return push_model(folder / "model", Destination(repo_id, private)), verified
