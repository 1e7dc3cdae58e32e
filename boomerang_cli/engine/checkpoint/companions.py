"""Which files beside the weights belong to a model: a list of what does, so that nothing else is copied or sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from boomerang_cli.engine.checkpoint.files import TEMPLATES_FOLDER, File

COMPANIONS = (
    # What tokenizers of transformers write and read, and what was written before there was tokenizer.json.
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "vocab.bpe", "vocab-src.json", "vocab-tgt.json", "target_vocab.json",
    "entity_vocab.json", "merges.txt", "bpe.codes", "dict.txt", "emoji.json", "normalizer.json", "byte_maps.json",
    "word_shape.json", "word_pronunciation.json", "prophetnet.tokenizer", "tekken.json", "*.tiktoken", "tiktoken.model",
    "tokenizer.model", "tokenizer.model.v[0-9]*", "spiece.model", "spm.model", "spm_char.model", "source.spm",
    "target.spm", "sentencepiece.model", "sentencepiece.bpe.model",
    # Processors, and how text is generated.
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
    "audio_tokenizer_config.json", "generation_config.json",
    "chat_template.jinja", "chat_template.json", f"{TEMPLATES_FOLDER}/*.jinja",
)  # fmt: skip
"""Patterns of names within a model's folder; licences and notices belong to it too."""

_LEGAL = (
    r"(licen[cs]e|notice|use_policy|copying|copyright|third[-_ ]party[-_ ]notice)s?"
    r"([-_ ][\w-]+)*(\.(txt|md|rst|pdf))?"
)


def is_companion(name: str) -> bool:
    """Tell whether a file of this name is part of a model, and neither weights, nor code, nor made anew for each."""
    in_templates = name.startswith(f"{TEMPLATES_FOLDER}/")
    if name.count("/") > in_templates or name.startswith(".") or "/." in name or "\\" in name:
        return False
    listed = name in COMPANIONS or any(fnmatchcase(name, each) for each in COMPANIONS if "*" in each)
    return listed or re.fullmatch(_LEGAL, name, re.IGNORECASE) is not None


def companions(files: Mapping[str, File]) -> tuple[File, ...]:
    """Return the files of a model that go with it to wherever its weights go."""
    return tuple(file for name, file in sorted(files.items()) if is_companion(name))
