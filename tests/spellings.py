"""One model, spelled in two ways: as transformers writes it, and as it may stand on the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from family_proof import KEPT_SETS, check_exact, save_teacher
from safetensors.torch import load_file, save_file
from tiny_types import VOCABULARY
from transformers import AutoModelForCausalLM

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_table import known_family

Tensors = dict[str, torch.Tensor]
Respell = Callable[[Path, Family], None]
"""Changes the files of a teacher's folder."""

MODELS = ((0, "last"), (1, "last"), (3, "first"))
"""None of the three blocks of ``KEPT_SETS[0]`` patched, one, all."""


def check_respelled(
    model_type: str, respell: Respell, folder: Path, *, models: Collection[tuple[int, str]] = MODELS, **changes: Any
) -> None:
    """Check that a respelled teacher is to boomerang what it is to transformers, and what the plain one is."""
    config = save_teacher(model_type, folder / "plain", **changes)
    family = known_family(config, model_type)
    assert family is not None
    shutil.copytree(folder / "plain", folder / "teacher")
    respell(folder / "teacher", family)
    assert torch.equal(_logits(folder / "teacher"), _logits(folder / "plain"))  # the spelling is one that is read
    check_exact(folder / "teacher", family, KEPT_SETS[:1], tuple(models), plain=folder / "plain")


def _logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # A copy: in mapped memory, weights differ by 1e-6 by how they are aligned alone.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        logits: torch.Tensor = model(tokens, use_cache=False).logits
    return logits


def read_tensors(folder: Path) -> Tensors:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def write_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})


def rename(folder: Path, new_name: Callable[[str], str]) -> None:
    before = read_tensors(folder)
    after = {new_name(name): tensor for name, tensor in before.items()}
    assert after.keys() != before.keys()
    write_tensors(folder, after)


def add(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    before = read_tensors(folder)
    assert tensors
    assert not before.keys() & tensors.keys()
    write_tensors(folder, {**before, **tensors})


def rewrite_config(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
