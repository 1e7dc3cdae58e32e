"""A trainer of models so small that a step takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import IterableDataset
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from boomerang_cli.engine.distillation.arguments import training_arguments
from boomerang_cli.engine.distillation.interrupts import Interrupts
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.pair.layers import LayerMap

LAYER_MAP = LayerMap(4, (0, 2, 3))
RECIPE = Recipe(steps=4, batch_size=4, sequence_length=8, learning_rate=1e-2, warmup_ratio=0.25)
VOCABULARY = 32


class Sequences(IterableDataset[dict[str, torch.Tensor]]):
    """Random ones, each the same wherever reading starts."""

    def __init__(self, start: int = 0, stop: int = 10**6) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for index in range(self.start, self.stop):
            generator = torch.Generator().manual_seed(index)
            yield {
                "input_ids": torch.randint(VOCABULARY, (RECIPE.sequence_length,), generator=generator),
                "position": torch.tensor([index + 1]),
            }


def neox(layers: int) -> PreTrainedModel:
    torch.manual_seed(layers)
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
        )
    )


def tied_llama(layers: int) -> PreTrainedModel:
    torch.manual_seed(layers)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            tie_word_embeddings=True,
        )
    )


def whole_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return a model's state whole in each of the processes that it may be split over."""
    state = model.state_dict()
    return {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in state.items()}


def make_trainer(
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    micro_batch_size: int | str = 2,
    models: tuple[PreTrainedModel, PreTrainedModel] | None = None,
    text: Sequences | None = None,
    texts: list[IterableDataset[Any]] | None = None,
    evaluation: torch.Tensor | None = None,
    layer_map: LayerMap = LAYER_MAP,
    **options: Any,
) -> DistillationTrainer:
    student, teacher = models or (neox(3), neox(4))
    trainer = DistillationTrainer(
        student=student,
        teacher=teacher.eval().requires_grad_(False),
        layer_map=layer_map,
        recipe=recipe,
        arguments=training_arguments(recipe, folder),
        texts=texts or [text or Sequences()],
        evaluation_sequences=evaluation,
        folder=TrainingFolder(folder),
        interrupts=options.pop("interrupts", Interrupts()),
        identity={},
        **options,
    )
    trainer.set_micro_batch_size(micro_batch_size)  # type: ignore[arg-type]
    return trainer
