"""``patch``: a model of any size between a student and its teacher, from their files, with no training."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.checkpoint.hub_reading import check_repo_id
from boomerang_cli.engine.errors import OutputError, SelectionError
from boomerang_cli.engine.output.block_sharing import arrange_for_sharing
from boomerang_cli.engine.output.output_folder import check_output, check_spares, temporary_folder
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.planner import Planner, choose_blocks
from boomerang_cli.engine.output.writer import ByteProgress, write_model
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.order import find_order
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.pair.selection import Selection
from boomerang_cli.engine.publishing.card import model_documents
from boomerang_cli.engine.publishing.provenance import layer_sources

if TYPE_CHECKING:
    from boomerang_cli.engine.output.verify import Verification
    from boomerang_cli.engine.push import PushResult


@dataclass(frozen=True)
class PatchResult:
    """The model that was written, or would be.

    Attributes:
        path: its folder; None if it went to the Hub.
        layers: k, the number of patched blocks.
        depth: the number of layers of the model.
        bytes: of all tensors.
        dtype: that of most of them, as ``config.json`` names it.
        order: its name; None where the blocks were named one by one.
        sources: ``owner`` and ``index`` there of each layer.
        seconds: from start to end.
        pushed: where it is on the Hub.
        verified: what was read again and compared.
    """

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
    sources: list[dict[str, Owner | int]]
    seconds: float
    pushed: PushResult | None
    verified: Verification | None
    plan: Plan


def patch(
    *,
    layers: int | None = None,
    depth: int | None = None,
    params: str | None = None,
    size: str | None = None,
    blocks: Sequence[int] | None = None,
    order: str = "auto",
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
) -> PatchResult:
    """Write the model that has the teacher's blocks in place of some of the student's layers.

    Args:
        layers, depth, params, size, blocks: see :class:`Selection`; one of them.
        order: ``auto``, ``first``, ``last`` or an order file (see ``order.find_order``).
        student, teacher, keep: see ``pair.open_pair``.
        output: ``patched-<depth>L`` by default.
        dtype: ``auto`` copies bytes as they are if both models have one dtype, else it is ``bfloat16``.
        push: the repository on the Hub to write to instead of the disk; ``private`` if it is new.
        download: bring models of the Hub whole into the cache, instead of reading there what this model needs.
        verify: read the model again and compare it with its sources, before it takes its place; always with ``push``.

    Raises:
        BoomerangError: a pair, a selection or an output that cannot be used; nothing is left behind.
    """
    started = time.monotonic()
    selection = Selection(layers, depth, params, size, blocks)
    if push is not None:
        check_repo_id(push)
    if push is not None and output is not None:
        raise SelectionError("--push writes to the Hub and --output to the disk: give one of them")
    if output is not None:
        check_output(Path(output), "patched", overwrite=overwrite, dry_run=dry_run)
    pair = open_pair(student, teacher, keep=keep, download=download and not dry_run)
    planner = Planner(pair, dtype=dtype, max_shard_size=max_shard_size)
    found = find_order(order, pair.layer_map, pair.student_config.order, pair.family.order)
    patched = choose_blocks(selection, planner, found)
    named = None if blocks is not None else found.name
    plan = planner.plan(patched)
    target = Path(output or f"patched-{len(plan.sources)}L")
    if push is None:
        check_output(target, "patched", overwrite=overwrite, dry_run=dry_run)
        check_spares(target, pair.student.folder, pair.teacher.folder)
    plan = plan.with_documents(model_documents(plan, pair, order=named, patched_blocks=patched, name=target.name))
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
        sources=layer_sources(plan),
        seconds=time.monotonic() - started,
        pushed=pushed,
        verified=verified,
        plan=plan,
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
