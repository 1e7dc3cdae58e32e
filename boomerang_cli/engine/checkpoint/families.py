"""Model families: how their tensors are named, and what in their configuration depends on the number of layers.

Keyed by ``config.model_type``: rows written by hand where something beside names and fields is known of a type
(FACTS.md 2), and ``families.json``, which ``benchmarks/families.py`` derives from transformers and proves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.errors import UnsupportedModelError


@dataclass(frozen=True)
class Family:
    """What layers of a family look like on disk and in ``config.json``.

    Attributes:
        base: prefix of the whole body; files saved from the body alone lack it.
        layers: what stands before the layer's index in a tensor's name.
        before: names or prefixes of what runs before the layers; the first is the embedding matrix.
        after: names or prefixes of what runs after the layers.
        final_norm: prefix of the norm that every checkpoint of the family must hold, if it has one.
        head: the language-model head's weight; tied models do not need to store it.
        tied_bias: the head's bias, and the tensor that it is in a tied model, where it is not stored by its own name.
        tied_by_default: whether a configuration without ``tie_word_embeddings`` means tied.
        depth_field: the number of layers in ``config.json``.
        dropped: regular expressions of tensors that older tools stored, or that serve another purpose.
        float32: parts of the names of tensors that stay float32 whatever the model's dtype.
        float32_in_float16: the same, of those that do in a model of float16 alone.
        prediction_layers_field: names the number of extra layers stored behind the last; they are dropped.
        order: in which order blocks are patched by default.
        keep_first, keep_last: the default layer rule's numbers.
        layer_lists: config fields with one value a layer.
        numbered: config fields that list layers by their numbers, each with the number of the first layer.
        thresholds: config fields that count layers, each with whether these are the first (``below`` the count) or the
            last (``above`` the rest).
        sparse_steps: whether ``mlp_only_layers`` and ``decoder_sparse_step`` say which layers route to experts.
        ties: whether the class knows tied models; else it reads two matrices whatever ``config.json`` says.
        ends_in: the value of ``layer_types`` that the class gives the last layer, whatever stands there.
        requires: fields that must have a value for layers to move, with it (a list's values are all meant), and why.
        first_apart: whether the first layer has other tensors than those of its kind.
        more_rows: whether the class's matrices have more rows than ``vocab_size``.
    """

    base: str = "model."
    layers: str = "model.layers."
    before: tuple[str, ...] = ("model.embed_tokens.weight",)
    after: tuple[str, ...] = ("model.norm.", "lm_head.weight")
    final_norm: str | None = "model.norm."
    head: str = "lm_head.weight"
    tied_bias: tuple[str, str] | None = None
    tied_by_default: bool = False
    depth_field: str = "num_hidden_layers"
    dropped: tuple[str, ...] = (r"\.rotary_emb\.inv_freq$",)
    float32: tuple[str, ...] = ()
    float32_in_float16: tuple[str, ...] = ()
    prediction_layers_field: str | None = None
    order: str = "last"
    keep_first: int = 1
    keep_last: int = 2
    layer_lists: tuple[str, ...] = ()
    numbered: tuple[tuple[str, int], ...] = ()
    thresholds: tuple[tuple[str, str], ...] = ()
    sparse_steps: bool = False
    ties: bool = True
    more_rows: bool = False
    first_apart: bool = False
    ends_in: str | None = None
    requires: tuple[tuple[str, Any, str], ...] = ()

    @property
    def embedding(self) -> str:
        return self.before[0]

    @property
    def body_after(self) -> tuple[str, ...]:
        """Prefixes of what follows the layers inside the body, in the order in which it runs."""
        return tuple(name for name in self.after if name.startswith(self.base))

    def teacher_depth(self, config: Mapping[str, Any]) -> int:
        depth = config.get(self.depth_field)
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
            raise UnsupportedModelError(f"config.json has no usable {self.depth_field}: {depth!r}")
        return depth


_BASE = Family()
_GEMMA = replace(_BASE, tied_by_default=True, layer_lists=("layer_types",))
_GEMMA4 = replace(
    _GEMMA,
    ends_in="full_attention",
    requires=(
        ("num_kv_shared_layers", 0, "its layers share key-value caches"),
        ("hidden_size_per_layer_input", 0, "its layers have columns of one embedding of all layers"),
    ),
)
_DSA = replace(
    _BASE,
    layer_lists=("mlp_layer_types", "layer_types", "indexer_types"),
    float32=("e_score_correction_bias",),
    float32_in_float16=("indexer.weights_proj",),
    requires=(("indexer_types", "full", "its layers share what an earlier layer's indexer chose"),),
)

FAMILIES: dict[str, Family] = {
    "llama": replace(_BASE, order="first", keep_first=2, keep_last=1),
    "mistral": _BASE,
    "mixtral": _BASE,
    "phi3": _BASE,
    "olmo2": _BASE,
    "qwen2": replace(_BASE, layer_lists=("layer_types",)),
    "qwen3": replace(_BASE, layer_lists=("layer_types",)),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    # Their classes make the last layer one of full attention. The code asks for layers' numbers to share caches.
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "smollm3": replace(_BASE, tied_by_default=True, layer_lists=("layer_types", "no_rope_layers")),
    "gpt_oss": replace(
        _BASE,
        layer_lists=("layer_types",),
        float32_in_float16=("post_attention_layernorm", "input_layernorm", "norm"),
    ),
    "qwen3_moe": replace(_BASE, sparse_steps=True),
    "qwen3_next": replace(_BASE, layer_lists=("layer_types",), sparse_steps=True, dropped=(*_BASE.dropped, r"^mtp\.")),
    "deepseek_v3": replace(
        _BASE,
        float32=(".e_score_correction_bias",),
        prediction_layers_field="num_nextn_predict_layers",
        thresholds=(("first_k_dense_replace", "below"),),
    ),
    "glm_moe_dsa": _DSA,
    "hy_v4": replace(
        _DSA,
        after=("model.hc_pre.hc_head.", *_BASE.after),
        float32=(
            "base",
            "e_score_correction_bias",
            "fn",
            "hc_base",
            "hc_fn",
            "hc_scale",
            "k_norm",
            "lm_head",
            "scale",
            "sinks",
            "weights_proj",
        ),
        float32_in_float16=(),
    ),
    "gpt_neox": Family(
        base="gpt_neox.",
        layers="gpt_neox.layers.",
        before=("gpt_neox.embed_in.weight",),
        after=("gpt_neox.final_layer_norm.", "embed_out.weight"),
        final_norm="gpt_neox.final_layer_norm.",
        head="embed_out.weight",
        dropped=(r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",),
    ),
    "gpt2": Family(
        base="transformer.",
        layers="transformer.h.",
        before=("transformer.wte.weight", "transformer.wpe."),
        after=("transformer.ln_f.", "lm_head.weight"),
        final_norm="transformer.ln_f.",
        tied_by_default=True,
        depth_field="n_layer",
        dropped=(r"\.attn\.(bias|masked_bias)$",),
    ),
    "opt": Family(
        layers="model.decoder.layers.",
        before=("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.", "model.decoder.project_in."),
        after=("model.decoder.final_layer_norm.", "model.decoder.project_out.", "lm_head.weight"),
        final_norm=None,
        tied_by_default=True,
    ),
    "bert": Family(
        base="bert.",
        layers="bert.encoder.layer.",
        before=("bert.embeddings.word_embeddings.weight", "bert.embeddings."),
        after=("bert.pooler.", "cls."),
        final_norm=None,
        head="cls.predictions.decoder.weight",
        tied_bias=("cls.predictions.decoder.bias", "cls.predictions.bias"),
        tied_by_default=True,
        dropped=(r"^bert\.embeddings\.position_ids$",),
    ),
    "distilbert": Family(
        base="distilbert.",
        layers="distilbert.transformer.layer.",
        before=("distilbert.embeddings.word_embeddings.weight", "distilbert.embeddings."),
        after=("vocab_",),
        final_norm=None,
        head="vocab_projector.weight",
        tied_by_default=True,
        depth_field="n_layers",
        dropped=(r"^distilbert\.embeddings\.position_ids$",),
    ),
}

_REFUSED = {
    "gemma3n": "its layers share key-value caches",
    "gemma3n_text": "its layers share key-value caches",
    "diffllama": "its attention uses the layer's index",
    "minimax": "its residual weights depend on the layer's index",
}

_TABLE = "families.json"
_PAIRS = ("numbered", "thresholds")


def known_family(config: Mapping[str, Any], name: str) -> Family | None:
    """Return the family of a configuration, or None if its type is in neither table.

    Raises:
        UnsupportedModelError: layers of the type cannot be moved; says why.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UnsupportedModelError(f"config.json of {name} has no model_type")
    if reason := _REFUSED.get(model_type):
        raise UnsupportedModelError(f"{name}: layers of {model_type} cannot be moved, {reason}")
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise UnsupportedModelError(f"{name}: layers cannot be moved, scale_attn_by_inverse_layer_idx is set")
    if family := FAMILIES.get(model_type):
        _check_required(config, family, name)
        return family
    row = derived_rows().get(model_type)
    if row is not None and "refused" in row:
        raise UnsupportedModelError(f"{name}: layers of {model_type} cannot be moved, {row['refused']}")
    return None if row is None else family_from_row(row)


def _check_required(config: Mapping[str, Any], family: Family, name: str) -> None:
    for field, needed, reason in family.requires:
        value = completed_config(config, name).get(field) if config.get(field) is None else config[field]
        if any(each not in (None, needed) for each in (value if isinstance(value, list) else [value])):
            raise UnsupportedModelError(f"{name}: layers of {config['model_type']} cannot be moved, {reason} ({field})")


@cache
def derived_rows() -> dict[str, dict[str, Any]]:
    """Return ``families.json``: by type, what differs from :class:`Family`'s defaults, or why it is refused."""
    rows: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name(_TABLE).read_text(encoding="utf-8"))
    return rows


def family_from_row(row: Mapping[str, Any]) -> Family:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    values |= {key: tuple(row[key].items()) for key in _PAIRS if key in row}
    return Family(**values)


def row_of(family: Family) -> dict[str, Any]:
    """Return a family as a row of ``families.json``; the opposite of :func:`family_from_row`."""
    row = {field.name: getattr(family, field.name) for field in fields(family)}
    row = {key: value for key, value in row.items() if value != getattr(_BASE, key)}
    return {key: dict(value) if key in _PAIRS else value for key, value in sorted(row.items())}
