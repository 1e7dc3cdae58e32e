"""A checkpoint as a transformers model in memory; the only place where weights become one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
from boomerang_cli.engine.checkpoint.families import is_encoder
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError
from boomerang_cli.engine.models.heap import without_holes
from boomerang_cli.engine.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", ".model", "vocab.json", "vocab.txt", ".tiktoken", "tekken.json")


def load_model(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    device_map: Mapping[str, torch.device] | None = None,
    split: Callable[[PreTrainedModel], None] | None = None,
) -> PreTrainedModel:
    """Load a causal language model, in evaluation mode; no code of its repository is run.

    Its tensors go from the files to their device one by one, a few at a time: a model never stands in host memory whole
    on its way to a GPU.

    Args:
        config: the content of ``config.json`` to use, whatever the checkpoint's own says.
        dtype: of the weights in memory, but for those that the family keeps in float32.
        device_map: in place of ``device``, where each part stands; see ``Places.device_map``.
        split: called with the model before its parameters have memory; of those that it makes DTensors of, this
            process's rows alone are read. See ``split_loading.reads_by_rows``.

    Raises:
        UnsupportedModelError: the family has no causal language model.
        CheckpointError: transformers cannot load it, or finds no weights for a part of the model.
        torch.OutOfMemoryError: the device is too small for it.
    """
    import torch

    from boomerang_cli.engine.models.tensor_files import LazyTensor

    settings, family = causal_class(config, checkpoint.name)
    # The files that the headers were read from, and no others.
    tensors = {name: LazyTensor(tensor) for name, tensor in checkpoint.tensors.items()}
    options: dict[str, Any] = {"config": settings, "state_dict": tensors, "dtype": dtype, "output_loading_info": True}
    if split is not None:
        family = _split_when_made(family, split)
    if device_map is not None or torch.device(device).type != "cpu":
        options["device_map"] = device_map or {"": torch.device(device)}
    try:
        with quiet_transformers(), without_holes():
            loaded: Any = family.from_pretrained(None, **options)
            set_generation_config(loaded[0], checkpoint.folder)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.name} cannot be loaded: {_first_line(error)}") from None
    model: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):  # transformers would go on with random values
        raise CheckpointError(f"{checkpoint.name} cannot be loaded: it holds no weights for {missing[0]}")
    if device_map is None:
        model.to(torch.device(device))  # type: ignore[arg-type]
    return model


def causal_class(config: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """Return transformers' configuration and class of a causal language model.

    Raises:
        UnsupportedModelError: the family has none, or one within a multimodal model; ``name`` is the model's.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model_type = config.get("model_type")
    if is_encoder(config):
        raise UnsupportedModelError(
            f"{name}: {model_type} predicts masked words; only models that continue a text can be distilled and scored"
        )
    settings = as_transformers_config(config)
    if type(settings) not in MODEL_FOR_CAUSAL_LM_MAPPING or settings.get_text_config() is not settings:
        raise UnsupportedModelError(
            f"{name}: {model_type} is a multimodal model, which init-student and patch work on; only models of text "
            "alone can be distilled and scored"
        )
    return settings, MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)]


def multimodal_class(config: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """Return transformers' configuration and class of a model that reads images and writes text.

    Raises:
        UnsupportedModelError: there is none; ``name`` is the model's, for the error.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    settings = as_transformers_config(config)
    if type(settings) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UnsupportedModelError(
            f"{name}: the installed transformers has no multimodal model of {config['model_type']}"
        )
    return settings, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(settings)]


def set_generation_config(model: PreTrainedModel, folder: Path) -> None:
    """Give a model the generation settings that a folder holds, if it does."""
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)


def _split_when_made(family: Any, split: Callable[[PreTrainedModel], None]) -> Any:
    """Return a class like ``family`` whose models are split as soon as they are made, before they have weights.

    transformers finds the names that files have by the class's name, and FSDP2 gives each model a class of its own.
    """
    own = {"__module__": family.__module__}

    def make(model: Any, *arguments: Any, **options: Any) -> None:
        family.__init__(model, *arguments, **options)
        split(model)
        model.__class__ = type(family.__name__, (type(model),), own)

    return type(family.__name__, (family,), {"__init__": make, **own})


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer; no code of its repository is run.

    Raises:
        CheckpointError: there is none, or it makes tokens that the model does not have.
    """
    from transformers import AutoTokenizer

    if not any(name.endswith(TOKENIZER_FILES) for name in checkpoint.files):  # transformers would make an empty one
        raise CheckpointError(f"{checkpoint.name} has no tokenizer, neither tokenizer.json nor one of another kind")
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                checkpoint.folder, trust_remote_code=False, local_files_only=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        reason = _needs_sentencepiece(checkpoint) or _first_line(error)
        raise CheckpointError(f"the tokenizer of {checkpoint.name} cannot be loaded: {reason}") from None
    vocabulary = checkpoint.config.get("vocab_size")
    if isinstance(vocabulary, int) and tokenizer.vocab_size > vocabulary:
        raise CheckpointError(
            f"the tokenizer of {checkpoint.name} has {tokenizer.vocab_size} tokens, its model {vocabulary}"
        )
    return tokenizer


def _needs_sentencepiece(checkpoint: Checkpoint) -> str | None:
    """Say so if a tokenizer could not be loaded for want of that package; transformers would name another."""
    pieces = [name for name in checkpoint.files if name.endswith(".model") and name != "tiktoken.model"]
    if not pieces or "tokenizer.json" in checkpoint.files or importlib.util.find_spec("sentencepiece"):
        return None
    return f"{pieces[0]} needs the package sentencepiece: `pip install sentencepiece`"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
