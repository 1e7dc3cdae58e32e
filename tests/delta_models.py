"""A base, a student of it, and a post-trained variant of the base: what a weight delta is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from files import edit_json
from safetensors.torch import load_file
from tiny_models import KEPT, make_config, make_model, make_tokenizer, save_pair


def save_trio(folder: Path, family: str = "llama", *, dtype: str = "float32", **changes: Any) -> Path:
    """Write ``base``, ``student`` and ``chat``; the student records its base, and has nothing of it."""
    base, student = save_pair(folder, family, **changes)
    base.rename(folder / "base")
    edit_json(student / "student_config.json", teacher=str(folder / "base"))
    save_variant(folder / "chat", family, **changes)
    for name in ("base", "student", "chat"):
        if dtype != "float32":
            recast(folder / name, dtype)
    return folder


def save_variant(folder: Path, family: str = "llama", *, seed: int = 3, **changes: Any) -> Path:
    make_model(make_config(family, **changes), seed).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def recast(folder: Path, dtype: str) -> None:
    """Store a model's weights in another dtype."""
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in weights(folder).items()}
    save_weights(folder, tensors)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def save_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def kept_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the undistilled student's weights of a llama-shaped teacher, by the student's names."""
    found = {}
    for name, tensor in weights(folder).items():
        if not name.startswith("model.layers."):
            found[name] = tensor
            continue
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        if int(layer) in KEPT:
            found[f"model.layers.{KEPT.index(int(layer))}.{rest}"] = tensor
    return found


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "student_config.json").read_text())
    return content
