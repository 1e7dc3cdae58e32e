"""Model families: how their tensors are named, and what in their configuration depends on the number of layers.

A table keyed by ``config.model_type`` (FACTS.md 2). A new family is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

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
        float32: suffixes of tensors that stay float32 whatever the model's dtype.
        prediction_layers_field: names the number of extra layers stored behind the last; they are dropped.
        order: in which order blocks are patched by default.
        keep_first, keep_last: the default layer rule's numbers.
        layer_lists: config fields with one value a layer.
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
    prediction_layers_field: str | None = None
    order: str = "last"
    keep_first: int = 1
    keep_last: int = 2
    layer_lists: tuple[str, ...] = ()

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
    "smollm3": replace(_BASE, tied_by_default=True, layer_lists=("layer_types", "no_rope_layers")),
    "gpt_oss": replace(_BASE, layer_lists=("layer_types",)),
    "qwen3_moe": _BASE,
    "qwen3_next": replace(_BASE, layer_lists=("layer_types",), dropped=(*_BASE.dropped, r"^mtp\.")),
    "deepseek_v3": replace(
        _BASE, float32=(".e_score_correction_bias",), prediction_layers_field="num_nextn_predict_layers"
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
    "gemma4": "its layers share key-value caches",
    "gemma4_text": "its layers share key-value caches",
    "diffllama": "its attention uses the layer's index",
    "minimax": "its residual weights depend on the layer's index",
}


def family_of(config: Mapping[str, Any], name: str) -> Family:
    """Return the family of a configuration.

    Raises:
        UnsupportedModelError: an unknown family, or maths that depends on the layer's index.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UnsupportedModelError(f"config.json of {name} has no model_type")
    if reason := _REFUSED.get(model_type):
        raise UnsupportedModelError(f"{name}: layers of {model_type} cannot be moved, {reason}")
    if model_type not in FAMILIES:
        raise UnsupportedModelError(f"{name}: unknown model_type {model_type!r} (known: {', '.join(sorted(FAMILIES))})")
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise UnsupportedModelError(f"{name}: layers cannot be moved, scale_attn_by_inverse_layer_idx is set")
    return FAMILIES[model_type]
