"""What ``boomerang.json`` says of the model that it lies beside: read back, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.student_config import is_whole_numbers

ROLES = ("teacher", "student", "delta_student", "base")
"""The models that a model can be made of."""


@dataclass(frozen=True)
class Origin:
    """A model that another one is made of.

    Attributes:
        name: a Hub id, or an absolute path.
        revision: the Hub commit.
        depth: the number of layers; None where it is not recorded, like ``parameters``.
        license: what its card declares.
    """

    name: str
    revision: str | None = None
    depth: int | None = None
    parameters: int | None = None
    license: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LayerOrigin:
    """Whose layer a layer is, and its index there."""

    owner: Owner
    index: int


@dataclass(frozen=True)
class Record:
    """How a model was made.

    Attributes:
        layers: k, the number of patched blocks; None of a model that is not patched.
        order: its name; None where the blocks were named one by one.
        sources: one a layer, of a patched model.
        made_of: by role.
    """

    layers: int | None = None
    order: str | None = None
    patched_blocks: tuple[int, ...] = ()
    sources: tuple[LayerOrigin, ...] = ()
    made_of: Mapping[str, Origin] = field(default_factory=dict)


def read_record(path: Path, depth: int) -> Record:
    """Read a ``boomerang.json``.

    Args:
        depth: the model's number of layers.

    Raises:
        CheckpointError: it is damaged, or speaks of another model.
    """
    content = read_json(path)
    made_of = {role: _origin(content[role]) for role in ROLES if _is_named(content.get(role))}
    if "k" not in content:
        return Record(made_of=made_of)
    listed, order = content.get("patched_blocks"), content.get("order")
    blocks: tuple[int, ...] | None = tuple(listed) if listed is not None and is_whole_numbers(listed) else None
    try:
        sources = tuple(LayerOrigin(_owner(each["owner"]), int(each["index"])) for each in content["layers"])
    except (LookupError, TypeError, ValueError):
        sources = ()
    if len(sources) != depth or blocks is None or content["k"] != len(blocks):
        raise CheckpointError(f"{path} does not tell where the model's {depth} layers come from: was it copied there?")
    return Record(len(blocks), order if isinstance(order, str) else None, blocks, sources, made_of)


def _owner(value: object) -> Owner:
    if value == "teacher":
        return "teacher"
    if value == "student":
        return "student"
    raise ValueError


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def _origin(content: Mapping[str, Any]) -> Origin:
    revision, licence = content.get("revision"), content.get("license")
    depth, parameters = (value if type(value := content.get(key)) is int else None for key in ("depth", "parameters"))
    return Origin(
        content["name"],
        revision if isinstance(revision, str) else None,
        depth,
        parameters,
        {key: value for key, value in licence.items() if isinstance(value, str)} if isinstance(licence, dict) else None,
    )
