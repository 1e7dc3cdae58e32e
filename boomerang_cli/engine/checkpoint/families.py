"""Model families: how their tensors are named, and what in their configuration depends on the number of layers.

The rows here are written by hand, for types of which more is known than can be derived (FACTS.md 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.checkpoint.wrappers import Wrapper
from boomerang_cli.engine.errors import UnsupportedModelError

MASKED = {"bert", "distilbert"}
"""Families that predict masked words: they can be patched, and neither distilled nor scored."""
ENCODERS = {
    "bert-generation", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Families whose words see those that follow, and so predict masked ones, unless `is_decoder` is set."""


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Tell whether words of the model of a ``config.json`` see those that follow: it does not continue a text."""
    model_type = config.get("model_type")
    return model_type in MASKED or (model_type in ENCODERS and not config.get("is_decoder"))


def predicts_masked_words(config: Mapping[str, Any]) -> bool:
    """Tell whether transformers loads such a model as one of masked words; bert-generation has no class for them."""
    return is_encoder(config) and config.get("model_type") != "bert-generation"


UNREAD = (
    r"\.rotary_emb\.inv_freq$",
    r"\.(attn|attention)\.(attention\.)?(bias|masked_bias|causal_mask)$",
    r"(^|\.)embeddings\.position_ids$",
    r"^(model\.)?mtp(_\w+)?\.",
)
"""Positions and masks that transformers of old stored with the weights; layers that predict several tokens ahead."""
PREDICTION_LAYERS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")
"""Fields that count the latter; they may stand behind the last layer too. transformers 5.23 runs none of them."""


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
        dropped: regular expressions of tensors that files may hold and no causal model reads.
        float32: parts of the names of tensors that stay float32 whatever the model's dtype.
        float32_in_float16: the same, of those that do in a model of float16 alone.
        order: in which order blocks are patched by default.
        keep_first, keep_last: the default layer rule's numbers.
        layer_lists: config fields with one value a layer.
        numbered: config fields that list layers by their numbers, each with the number of the first layer.
        thresholds: config fields that count layers, each with whether these are the first (``below`` the count) or the
            last (``above`` the rest).
        sparse_steps: whether ``mlp_only_layers`` and ``decoder_sparse_step`` say which layers route to experts.
        ties: whether the class knows tied models; else it reads two matrices whatever ``config.json`` says.
        ends_in: the value of ``layer_types`` that the class gives the last layer, whatever stands there.
        last_apart: whether the last layer, and no other, has tensors of its own: it must stay the last.
        depth_list: a list of ``config.json`` whose length is the depth where ``depth_field`` is absent.
        repeated: those of the lists that may be shorter, and then repeat.
        depth_scaled: fields that the class divides by the square root of the depth.
        requires: fields that must have a value for layers to move, with it (a list's values are all meant), and why.
        first_apart: whether the first layer has other tensors than those of its kind.
        more_rows: whether the class's matrices have more rows than ``vocab_size``.
        wrapper: where the text model stands within a multimodal one, if it does; what else that holds is ``before``.
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
    dropped: tuple[str, ...] = UNREAD
    float32: tuple[str, ...] = ()
    float32_in_float16: tuple[str, ...] = ()
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
    last_apart: bool = False
    depth_list: str | None = None
    repeated: tuple[str, ...] = ()
    depth_scaled: tuple[str, ...] = ()
    requires: tuple[tuple[str, Any, str], ...] = ()
    wrapper: Wrapper | None = None

    @property
    def embedding(self) -> str:
        return self.before[0]

    def text_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part of a ``config.json`` that speaks of the layers: all of it, but for a multimodal model."""
        return self.wrapper.text_config(config) if self.wrapper else config

    def teacher_depth(self, config: Mapping[str, Any]) -> int:
        text = self.text_config(config)
        depth = text.get(self.depth_field)
        if depth is None and self.depth_list and isinstance(listed := text.get(self.depth_list), list):
            depth = len(listed)
        if depth is None and self.wrapper:  # older files hold what differs from the text class's defaults
            depth = self.text_config(completed_config(config, "the model")).get(self.depth_field)
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
    # Its towers stand within the body, where a text alone never runs them.
    "phi4_multimodal": replace(_BASE, before=("model.embed_tokens.weight", "model.embed_tokens_extend.")),
    "olmo2": _BASE,
    "olmo3": replace(_BASE, order="first", layer_lists=("layer_types",)),
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
    "qwen3_next": replace(_BASE, layer_lists=("layer_types",), sparse_steps=True),
    "deepseek_v3": replace(
        _BASE,
        float32=(".e_score_correction_bias",),
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
    ),
    "gpt_neox_japanese": Family(  # one bias more in the last layer
        base="gpt_neox_japanese.",
        layers="gpt_neox_japanese.layers.",
        before=("gpt_neox_japanese.embed_in.weight",),
        after=("gpt_neox_japanese.final_layer_norm.", "embed_out.weight"),
        final_norm="gpt_neox_japanese.final_layer_norm.",
        head="embed_out.weight",
        tied_by_default=True,
        last_apart=True,
    ),
    "minicpm3": replace(_BASE, tied_by_default=True, depth_scaled=("scale_depth",)),
    "recurrent_gemma": replace(
        _BASE,
        after=("model.final_norm.", "lm_head.weight"),
        final_norm="model.final_norm.",
        tied_by_default=True,
        layer_lists=("block_types",),
        repeated=("block_types",),
    ),
    "nemotron_h": Family(  # its depth is the length of a list
        base="backbone.",
        layers="backbone.layers.",
        before=("backbone.embeddings.weight",),
        after=("backbone.norm_f.", "lm_head.weight"),
        final_norm="backbone.norm_f.",
        float32=("e_score_correction_bias",),
        layer_lists=("layers_block_type",),
        ties=False,
        depth_list="layers_block_type",
    ),
    "gpt2": Family(
        base="transformer.",
        layers="transformer.h.",
        before=("transformer.wte.weight", "transformer.wpe."),
        after=("transformer.ln_f.", "lm_head.weight"),
        final_norm="transformer.ln_f.",
        tied_by_default=True,
        depth_field="n_layer",
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
    ),
}
