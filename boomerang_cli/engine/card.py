"""What a model folder says of itself: ``boomerang.json``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from boomerang_cli import __version__
from boomerang_cli.engine.checkpoint import Checkpoint
from boomerang_cli.engine.layers import Owner
from boomerang_cli.engine.pair import Pair
from boomerang_cli.engine.plan import OWNERS, Plan

PROVENANCE_FILE = "boomerang.json"
_LIBRARIES = ("torch", "transformers", "safetensors", "huggingface_hub")


def provenance(plan: Plan, pair: Pair, *, order: str | None, patched_blocks: Sequence[int]) -> dict[str, Any]:
    """Return where each layer of a patched model comes from, and how it was made.

    Args:
        order: its name; None where the blocks were named one by one.
    """
    return {
        "method": "boomerang distillation, arXiv 2510.05064",
        "teacher": _source(pair.teacher),
        "student": _source(pair.student),
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
        "command": command(),
        "versions": versions(),
    }


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
        return shlex.join(["boomerang", *sys.argv[1:]])
    return "from Python"


def versions() -> dict[str, str]:
    """Return the versions that made a model; nothing is imported for it."""
    found = {"boomerang": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _source(checkpoint: Checkpoint) -> dict[str, str | None]:
    return {"name": checkpoint.name, "revision": checkpoint.revision}
