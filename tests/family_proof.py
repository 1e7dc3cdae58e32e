"""The proof that layers of a type can be moved: what `patch` writes against a teacher whose dropped layers do nothing.

The oracle keeps the teacher's configuration, masks and layer numbers, so it knows none of the rules that it checks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tiny_types import VOCABULARY, tiny_config, tiny_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.derivation.derive import derive
from boomerang_cli.engine.checkpoint.families import FAMILIES, Family
from boomerang_cli.engine.checkpoint.family_table import derived_rows, row_of
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.pair.layers import LayerSource
from boomerang_cli.engine.patch import patch

KEPT_SETS = ((0, 2, 4, 5, 7), (0, 1, 3, 6))
MODELS = ((0, "last"), (1, "first"), (1, "last"), (2, "first"), (2, "last"))
"""How many blocks are patched, and in which order."""


class InexactError(AssertionError):
    """A written model that is not what it should be."""


def save_teacher(model_type: str, folder: Path, *, absent: Collection[str] = (), **changes: Any) -> dict[str, Any]:
    """Write a tiny teacher, without the fields of its config.json that are to be ``absent``, and return that."""
    tiny_model(tiny_config(model_type, absent=absent, **changes), 1).save_pretrained(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config = {field: value for field, value in config.items() if field not in absent}
    (folder / "config.json").write_text(json.dumps(config))
    return config


def derive_row(folder: Path) -> dict[str, Any]:
    """Return the row of a teacher's type, derived from its files."""
    checkpoint = read_checkpoint(folder)
    return row_of(derive(checkpoint.config, list(checkpoint.tensors)))


def use_row(model_type: str, row: dict[str, Any]) -> None:
    if model_type not in FAMILIES:
        derived_rows()[model_type] = row


def check_exact(
    teacher: Path,
    family: Family,
    kept_sets: Sequence[tuple[int, ...]] = KEPT_SETS,
    models: Sequence[tuple[int, str]] = MODELS,
    *,
    plain: Path | None = None,
) -> str:
    """Patch and compare; return what is to be said of generation with a cache.

    Args:
        plain: the same teacher as transformers writes it, where that is spelled otherwise.

    Raises:
        InexactError: the first model whose logits differ.
    """
    whole = load(plain or teacher)
    note = ""
    for kept in kept_sets:
        student = teacher.parent / f"student-{len(kept)}"
        init_student(teacher, output=student, keep=kept)
        disturb(student)
        small = load(student)
        for number, (layers, order) in enumerate(models):
            output = teacher.parent / f"patched-{len(kept)}-{number}"
            result = patch(layers=layers, order=order, student=student, teacher=teacher, output=output)
            patched = copy.deepcopy(load(output))
            expected = put_together(whole, small, result.plan.sources, _logits)
            differs = (_logits(patched) - _logits(expected)).abs().max().item()
            if differs != 0:
                raise InexactError(f"kept {kept}, k = {layers}, {order}: the logits differ by {differs:.2g}")
            if number == len(models) - 1:
                note = note or _cached_generation(patched, whole)
    return note


def load(folder: Path) -> PreTrainedModel:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: value for key, value in loaded[1].items() if value}
    if problems:
        raise InexactError(f"{folder.name} loads with {str(problems)[:200]}")
    model: PreTrainedModel = loaded[0].eval()
    return model


def disturb(student: Path) -> None:
    """Make a student's weights its own."""
    generator = torch.Generator().manual_seed(7)
    for path in student.glob("*.safetensors"):
        tensors = load_file(path)
        for name, tensor in sorted(tensors.items()):
            if tensor.is_floating_point():
                tensors[name] = tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
                if tensor.shape[:1] == (VOCABULARY,):
                    tensors[name][0] = 0  # see tiny_model
        save_file(tensors, path, metadata={"format": "pt"})


def put_together(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    sources: tuple[LayerSource, ...],
    run: Callable[[PreTrainedModel], Any],
    *,
    only_body: bool = False,
) -> PreTrainedModel:
    """Return the full-depth teacher with the student's layers, and what is around them by its owner.

    What runs before the first layer is that layer's owner's, all else the last layer's owner's.

    Args:
        run: one forward pass, which shows what runs before the layers.
        only_body: of what is neither in the layers' own body nor the head, all is the first layer's owner's.
    """
    model = copy.deepcopy(teacher)
    stack = layer_stack(model)
    layers, own = model.get_submodule(stack), student.get_submodule(stack)
    used = {source.teacher_layer: source for source in sources}
    for index, layer in enumerate(layers):
        source = used.get(index)
        if source is None:
            layer.forward = does_nothing(layer.forward)
        elif source.owner == "student":
            layer.load_state_dict(own[source.index].state_dict())
    first, body = _runs_first(model, stack, run), stack.rpartition(".")[0]
    owners = {"teacher": teacher, "student": student}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding.weight is head.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.startswith(f"{stack}.") or name == stack:
                continue
            outside = only_body and module is not head and not name.startswith(f"{body}.")
            owner = owners[sources[0 if name in first or outside else -1].owner].get_submodule(name)
            for key, parameter in module.named_parameters(recurse=False):
                parameter.copy_(owner.get_parameter(key))
            for key, buffer in module.named_buffers(recurse=False):
                if key in module.state_dict():
                    buffer.copy_(owner.get_buffer(key))
    return model


def layer_stack(model: PreTrainedModel) -> str:
    """Return the name of the list that holds the layers: the outermost of their number, a decoder's if there is one."""
    lists = [(name, len(each)) for name, each in model.named_modules() if isinstance(each, torch.nn.ModuleList)]
    deepest = [name for name, length in lists if length == 8]
    decoders = [name for name in deepest if "decoder" in name]
    return min(decoders or deepest, key=lambda name: name.count("."))


def does_nothing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def identity(*arguments: Any, **named: Any) -> Any:
        hidden_states = arguments[0] if arguments else named["hidden_states"]
        given = forward(*arguments, **named)
        return (hidden_states, *given[1:]) if isinstance(given, (tuple, list)) else hidden_states

    return identity


def _runs_first(model: PreTrainedModel, stack: str, run: Callable[[PreTrainedModel], Any]) -> set[str]:
    """Return the names of modules that run before the first layer."""
    seen: set[str] = set()
    reached: list[bool] = []
    hooks = [model.get_submodule(stack)[0].register_forward_pre_hook(lambda *_: reached.append(True))]
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: None if reached else seen.add(name)))
    run(model)
    for hook in hooks:
        hook.remove()
    return seen


def draw_tokens(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(draw_tokens(), use_cache=False).logits
    return logits


def _cached_generation(model: PreTrainedModel, teacher: PreTrainedModel) -> str:
    if (problem := _cache_problem(model)) is None:
        return ""
    return f"cached generation {problem}" + (", for the teacher too" if _cache_problem(teacher) else "")


def _cache_problem(model: PreTrainedModel) -> str | None:
    prompt = draw_tokens(1, 6)
    try:
        with torch.no_grad():
            cached = model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=None)
            tokens = prompt
            for _ in range(6):
                logits = model(tokens, use_cache=False).logits[:, -1]
                tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    except Exception as error:
        return f"fails ({str(error).strip().splitlines()[0][:80]})" if str(error).strip() else "fails"
    return None if cached.tolist() == tokens.tolist() else "differs"
