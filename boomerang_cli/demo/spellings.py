"""What version 5 of transformers spells anew in a GPT-NeoX's files, in the older spelling too.

Programs with code of their own, and transformers 4, read the older one; version 5 reads either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_older_spellings(folder: Path) -> None:
    """Write Pythia's names of the rotary values beside the new ones, and the tokenizer's class as in version 4."""
    config = _read(folder / "config.json")
    rotary = config["rope_parameters"]
    older = {"rotary_emb_base": rotary["rope_theta"], "rotary_pct": rotary["partial_rotary_factor"]}
    _write(folder / "config.json", dict(sorted({**config, **older}.items())))
    older = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    tokenizer = {**_read(folder / "tokenizer_config.json"), **older}  # version 4 adds token_type_ids to those by itself
    _write(folder / "tokenizer_config.json", dict(sorted(tokenizer.items())))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
