"""An intermediate model in memory, read straight from the files of its pair: only what it holds is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.checkpoint.files import SourceFile
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.output.shards import Copy
from boomerang_cli.engine.pair.order import find_order
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.pair.patched_config import patched_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def build_intermediate_model(
    teacher_name_or_path: str | Path,
    student_name_or_path: str | Path,
    num_layers_to_patch: int,
    patch_first_k_layers: bool | None = None,
    dtype: torch.dtype | str | None = None,
) -> PreTrainedModel:
    """Return the model that ``boomerang patch --layers`` writes, without writing it.

    The signature is that of the published students' model cards. A tensor is read when it is put in its place, so the
    peak of memory is little more than the model.

    Args:
        teacher_name_or_path (str | Path): the teacher: a folder, or ``owner/name[@revision]`` on the Hub, which is
            brought whole into the cache.
        student_name_or_path (str | Path): the student, named and brought in the same way.
        num_layers_to_patch (int): k, how many blocks are patched, 0 (the student) to n (the teacher).
        patch_first_k_layers (bool, optional): from the start (True) or from the end (False); None is what the student
            records, else the family's order.
        dtype (torch.dtype | str, optional): ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``, or its name;
            None keeps the pair's, or is bfloat16 where the two differ.

    Returns:
        A ``PreTrainedModel`` of transformers on the CPU, in evaluation mode.

    Raises:
        ModelNotFoundError: one of the two is not there.
        CheckpointError: model files that are incomplete, corrupt, or contradict each other.
        UnsupportedModelError: an unknown family, or quantised weights.
        PairError: a student and a teacher that do not belong together.
        SelectionError: a k that the pair does not have, or an unknown dtype.
        HubError: the Hub refuses, fails, or is out of reach.
    """
    pair = open_pair(student_name_or_path, teacher_name_or_path)
    order = {None: "auto", True: "first", False: "last"}[patch_first_k_layers]
    found = find_order(order, pair.layer_map, pair.student_config.order, pair.family.order)
    planner = Planner(pair, dtype=_dtype_name(dtype))
    patched = found.blocks(num_layers_to_patch)
    plan = planner.plan(patched).with_student_config(patched_config(pair, patched, found))
    from boomerang_cli.engine.models.same_layers import check_plans

    check_plans([plan], pair.teacher, pair.family)
    return _materialise(plan, pair)


def _dtype_name(dtype: torch.dtype | str | None) -> str:
    return "auto" if dtype is None else str(dtype).removeprefix("torch.")


def _materialise(plan: Plan, pair: Pair) -> PreTrainedModel:
    import torch

    from boomerang_cli.engine.models.loading import causal_class, multimodal_class, set_generation_config
    from boomerang_cli.engine.models.model_class import check_tensors
    from boomerang_cli.engine.quiet import quiet_transformers

    settings, family = (multimodal_class if plan.multimodal else causal_class)(plan.config, pair.teacher.name)
    if not plan.multimodal:  # towers have names of several versions in files, all of which transformers reads
        check_tensors({copy.name: copy.source for copy in plan.copies}, plan.config, pair.family, pair.teacher.name)
    with quiet_transformers():
        loaded: Any = family.from_pretrained(
            None,
            config=settings,
            state_dict={copy.name: _LazyTensor(copy) for copy in plan.copies},
            dtype=getattr(torch, plan.dtype),
            output_loading_info=True,
        )
        model: PreTrainedModel = loaded[0]
        set_generation_config(model, pair.teacher.folder)
    if missing := sorted(loaded[1]["missing_keys"]):  # transformers would go on with random values
        raise CheckpointError(f"{pair.teacher.name} cannot be loaded: it holds no weights for {missing[0]}")
    return model


class _LazyTensor:
    """Looks to transformers like a slice of a safetensors file: ``[...]`` reads it."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy

    def __getitem__(self, _: Any) -> torch.Tensor:
        import torch

        source, file = self._copy.source, self._copy.source.file
        assert isinstance(file, SourceFile)  # open_pair has downloaded what is on the Hub
        data = torch.empty(source.size_bytes, dtype=torch.uint8)
        with file.path.open("rb", buffering=0) as opened:
            opened.seek(source.start)
            view = data.numpy().data
            while view:
                if not (read := opened.readinto(view)):
                    raise CheckpointError(f"{file} became shorter while it was read")
                view = view[read:]
        stored = getattr(torch, _TORCH_NAMES[source.dtype])
        return data.view(stored).reshape(source.shape)
