"""How a model came to be: the content of ``boomerang.json``, and of what the model card says."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.parts import Parts, take_apart
from boomerang_cli.engine.output.plan import OWNERS, Plan
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import StudentConfig, is_student
from boomerang_cli.engine.publishing.plain_yaml import load
from boomerang_cli.engine.publishing.versions import versions

if TYPE_CHECKING:
    from boomerang_cli.engine.pair.delta import Delta

PROVENANCE_FILE = "boomerang.json"
METHOD = "boomerang distillation, arXiv 2510.05064"
DELTA_METHOD = "weight-delta initialization, arXiv 2608.22854"
_FRONT_MATTER_BYTES = 2**20


def provenance(plan: Plan, pair: Pair, *, order: str | None, patched_blocks: Sequence[int]) -> dict[str, Any]:
    """Return where each layer of a patched model comes from, and how it was made.

    Args:
        order: its name; None where the blocks were named one by one.
    """
    return {
        "method": METHOD,
        "teacher": _source(pair.teacher, pair.parts["teacher"]),
        "student": {**_source(pair.student, pair.parts["student"]), **_records(pair.student)},
        "copied_teacher_layers": list(pair.layer_map.kept),
        "k": len(patched_blocks),
        "order": order,
        "patched_blocks": list(patched_blocks),
        "embedding": plan.sources[0].owner,
        "head": plan.sources[-1].owner,
        "tied_embeddings": plan.tied,
        "layers": layer_sources(plan),
        "parameters": plan.parameters,
        "bytes": plan.size_bytes,
        "dtype": plan.dtype,
        "distillation": dict(pair.student_config.distillation) or None,
        **_weight_delta(pair.student_config),
        "command": command(),
        "versions": versions(),
    }


def delta_provenance(plan: Plan, teacher: Checkpoint, parts: Parts, delta: Delta) -> dict[str, Any]:
    """Return how a student with a weight delta was made.

    Args:
        parts: the teacher's.
    """
    return {
        "method": DELTA_METHOD,
        "teacher": _source(teacher, parts),
        "delta_student": _source(delta.pair.student, delta.pair.parts["student"]),
        "base": _source(delta.pair.teacher, delta.pair.parts["teacher"]),
        "delta_scale": delta.scale,
        "copied_teacher_layers": list(delta.layer_map.kept),
        "tied_embeddings": plan.tied,
        "parameters": plan.parameters,
        "bytes": plan.size_bytes,
        "dtype": plan.dtype,
        "command": command(),
        "versions": versions(),
    }


def student_provenance(student: Checkpoint, family: Family, recorded: StudentConfig) -> dict[str, Any]:
    """Return the same of a student, as far as its ``student_config.json`` tells."""
    teacher = {"name": recorded.teacher, "revision": recorded.teacher_revision}
    own = _source(student, take_apart(student, family))
    return {
        "method": METHOD,
        "teacher": {**teacher, "depth": recorded.layer_map.teacher_layers} if recorded.teacher else None,
        "copied_teacher_layers": list(recorded.layer_map.kept),
        "tied_embeddings": own["tied_embeddings"],
        "parameters": own["parameters"],
        "dtype": student.main_dtype,
        "distillation": dict(recorded.distillation) or None,
        **({"trained_elsewhere": True} if recorded.is_of_other_tools else {}),
        **_weight_delta(recorded),
        "license": own["license"],
    }


def _records(student: Checkpoint) -> dict[str, bool]:
    """Say so where a student does not record its layers: whoever patches it has to ``--keep`` them."""
    return {} if is_student(student.folder) else {"records_layers": False}


def _weight_delta(recorded: StudentConfig) -> dict[str, Any]:
    """Return what was added to a student, if anything was."""
    return {"weight_delta": dict(recorded.weight_delta)} if recorded.weight_delta else {}


def layer_sources(plan: Plan) -> list[dict[str, Owner | int]]:
    """Return owner and index there of each layer of a model."""
    return [{"owner": source.owner, "index": source.index} for source in plan.sources]


def owners(plan: Plan) -> dict[Owner, int]:
    """Return how many layers come from each owner."""
    return {owner: sum(source.owner == owner for source in plan.sources) for owner in OWNERS}


def command() -> str:
    """Return the command line of this process, as a person would type it."""
    program = Path(sys.argv[0])
    if program.name == "boomerang" or program.parts[-2:] == ("boomerang_cli", "__main__.py"):
        return re.sub(r"\bhf_[A-Za-z0-9]{20,}", "hf_…", shlex.join(["boomerang", *sys.argv[1:]]))
    return "from Python"


def _source(checkpoint: Checkpoint, parts: Parts) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "depth": len(parts.layers),
        "parameters": parts.parameters,
        "tied_embeddings": parts.tied,
        "license": read_license(checkpoint.folder / "README.md"),
    }


def read_license(card: Path) -> dict[str, str] | None:
    """Return what a model's card says of its licence: ``license``, and ``license_name`` and ``license_link`` if any.

    Nothing else of somebody's YAML is read: a few thousand brackets in it would take minutes.
    """
    keys = ("license", "license_name", "license_link")
    metadata = load(re.findall(r"^license(?:_name|_link)?:.{,300}$", _front_matter(card), re.MULTILINE))
    if not isinstance(metadata, dict):
        return None
    found = {key: metadata[key] for key in keys if isinstance(metadata.get(key), str)}
    return found if "license" in found else None


def _front_matter(card: Path) -> str:
    """Return the YAML that a card begins with; nothing where there is none."""
    try:
        with card.open("rb") as opened:
            text = opened.read(_FRONT_MATTER_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)", text, re.DOTALL)
    return match[1].replace("\r\n", "\n") if match else ""
