"""Every family, every set of blocks: the written folder is the model put together by hand, logit for logit."""

from __future__ import annotations

import copy
from functools import cache
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, KEPT, LAYERS, layer_config, layers_of, load, save_pair, text
from transformers import PreTrainedModel

from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.patch import patch

LAYER_MAP = LayerMap(LAYERS, KEPT)
SUBSETS = list(chain.from_iterable(combinations(LAYER_MAP.patchable, size) for size in range(4)))


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(family: str) -> tuple[Path, PreTrainedModel, PreTrainedModel]:
        folder = tmp_path_factory.mktemp(family)
        shards = "20KB" if family in ("mixtral", "qwen3") else "50GB"
        teacher, student = save_pair(folder, family, max_shard_size=shards)
        return folder, load(teacher), load(student)

    return make


def put_together(teacher: PreTrainedModel, student: PreTrainedModel, blocks: tuple[int, ...]) -> PreTrainedModel:
    """The definition (SPEC.md), by hand: modules of the two models, put into a copy of one of them."""
    owner, layers, origins = {"teacher": teacher, "student": student}, [], []
    for index, block in enumerate(LAYER_MAP.blocks):
        near = [other for other in LAYER_MAP.patchable if other < index][-1:]
        near += [other for other in LAYER_MAP.patchable if other > index][:1]
        patched = index in blocks if len(block) > 1 else any(other in blocks for other in near)
        layers += [(layers_of(teacher)[layer], "teacher") for layer in block] if patched else []
        layers += [] if patched else [(layers_of(student)[index], "student")]
        origins += list(block) if patched else [block[0]]
    model = copy.deepcopy(owner[layers[0][1]])
    model.config = layer_config(teacher.config, tuple(origins))
    model.base_model.config = model.config
    getattr(model.base_model, "decoder", model.base_model).config = model.config
    listed = layers_of(model)
    del listed[:]
    listed.extend(copy.deepcopy(layer) for layer, _ in layers)
    last = copy.deepcopy(owner[layers[-1][1]])
    model.set_output_embeddings(last.get_output_embeddings())
    body, other = (getattr(each.base_model, "decoder", each.base_model) for each in (model, last))
    for name in ("norm", "final_layer_norm", "ln_f", "project_out"):
        if hasattr(body, name):
            setattr(body, name, getattr(other, name))
    return model


@pytest.mark.parametrize("blocks", SUBSETS, ids=lambda blocks: "-".join(map(str, blocks)) or "none")
@pytest.mark.parametrize("family", FAMILIES)
def test_patched_folder_gives_the_logits_of_the_model_put_together_by_hand(
    family: str, blocks: tuple[int, ...], pair_of: Any, tmp_path: Path
) -> None:
    folder, teacher, student = pair_of(family)
    patch(blocks=blocks, student=folder / "student", output=tmp_path / "model")
    patched = load(tmp_path / "model")
    expected = put_together(teacher, student, blocks)
    with torch.no_grad():
        assert torch.equal(patched(text(), use_cache=False).logits, expected(text(), use_cache=False).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_a_cache_agrees_with_full_forwards(family: str, pair_of: Any, tmp_path: Path) -> None:
    folder, _, _ = pair_of(family)
    patch(blocks=LAYER_MAP.patchable[1:], student=folder / "student", output=tmp_path / "model")
    patched = load(tmp_path / "model")
    prompt = text(rows=1, length=6)
    cached = patched.generate(prompt, max_new_tokens=8, do_sample=False, eos_token_id=None)
    tokens = prompt
    with torch.no_grad():
        for _ in range(8):
            logits = patched(tokens, use_cache=False).logits[:, -1]
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    assert cached.tolist() == tokens.tolist()
