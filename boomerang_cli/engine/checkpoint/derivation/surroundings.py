"""What runs before a model's layers and after them, as its files name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.derivation.blank_model import Names
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.derivation.run_order import runs_before


def what_is_around(
    model: Any, stack: str, modules: Mapping[str, str], names: Names, body: str
) -> tuple[list[str], list[str], str]:
    """Return what runs before the layers, the embedding first, what runs after, and the head, as named on disk.

    Args:
        body: what stands before the names of the text model's body; no other modules but the head are told.

    Raises:
        NotDerivableError: it has no embedding or head, or a module whose place or name is not known.
    """
    by_identity = {id(module): name for name, module in model.named_modules()}
    try:
        embedding = by_identity.get(id(model.get_input_embeddings()))
        head = by_identity.get(id(model.get_output_embeddings()))
    except NotImplementedError:  # of a class whose parts have other names than most
        embedding = head = None
    if embedding is None or head is None:
        raise NotDerivableError("it has no embedding or no head of its own")
    on_disk = {module: name for name, module in modules.items()}

    def disk_name(module: str) -> str:
        # What no file of a tied model holds: within another, a head has its old name in files.
        spelled = (names.to_disk(module), module) if body else (module, names.to_disk(module))
        for name in (on_disk.get(module), *spelled):
            if name and names.to_module(name) == module:
                return name
        raise NotDerivableError(f"it is not known what {module} is called in the files")

    first = runs_before(model, stack)
    before: list[str] = [disk_name(f"{embedding}.weight")]
    after: list[str] = []
    for name, module in modules.items():
        if module not in names.known or module.startswith(stack) or not module.startswith(body):
            continue
        if module in (f"{embedding}.weight", f"{head}.weight"):
            continue
        owner = module.rpartition(".")[0]
        if owner == head:
            continue
        if not owner or stack.startswith(f"{owner}."):
            raise NotDerivableError(f"{name} belongs to the body itself: before or after the layers")
        # With a module's name, so that a bias that not every model of the type has is known too.
        own = f"{name.rpartition('.')[0]}." if name.rpartition(".")[2] == module.rpartition(".")[2] else name
        (before if owner in first else after).append(own)
    bias = f"{head}.bias"
    if bias in names.known:
        after.append(disk_name(bias))
    return list(dict.fromkeys(before)), list(dict.fromkeys(after)), disk_name(f"{head}.weight")


def final_norm(after: Sequence[str], base: str) -> str | None:
    """Return the only module of the body that runs after the layers, which every file of the type must hold."""
    inner = [name for name in after if name.startswith(base) and name.endswith(".")]
    return inner[0] if base and len(inner) == 1 else None


def common_prefix(one: str, other: str) -> str:
    parts = []
    for left, right in zip(one.split("."), other.split("."), strict=False):
        if left != right:
            break
        parts.append(f"{left}.")
    return "".join(parts)
