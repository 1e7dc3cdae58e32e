"""Hidden states as transformers numbers them."""

from __future__ import annotations

import pytest
import torch
from loss_models import CONFIGS, batch, model_of

from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.models.hidden_states import decoder_layers, hidden_states_at


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_states_are_those_that_transformers_numbers(family: str) -> None:
    model = model_of(family)
    expected = model(batch(), output_hidden_states=True).hidden_states
    states = hidden_states_at(model, batch(), None, [0, 2, 4, -1])
    assert sorted(states) == [-1, 0, 2, 4]
    for index, state in states.items():
        torch.testing.assert_close(state, expected[index])


def test_only_the_states_asked_for_are_kept_and_no_hook_stays() -> None:
    model = model_of("llama")
    assert sorted(hidden_states_at(model, batch(), None, [3])) == [-1, 3]
    assert not any(layer._forward_pre_hooks for layer in decoder_layers(model))


def test_a_model_without_a_list_of_layers_is_named() -> None:
    model = model_of("llama")
    model.config.num_hidden_layers = 9
    with pytest.raises(UnsupportedModelError, match="LlamaForCausalLM holds no list of 9 layers"):
        decoder_layers(model)
