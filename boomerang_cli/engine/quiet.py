"""The only place where libraries are told to leave the terminal to the command: no bars, no log lines but errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_WHILE_TRAINING = ("transformers", "datasets", "huggingface_hub", "accelerate", "torch.distributed")


def keep_quiet(*libraries: str) -> None:
    """Keep these libraries quiet from now on; those that have bars are imported for it."""
    for library in libraries:
        if library == "transformers":
            from transformers.utils import logging as transformers_logging

            transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        elif library == "datasets":
            import datasets

            datasets.utils.logging.set_verbosity_error()
            datasets.disable_progress_bars()
        elif library == "huggingface_hub":
            from huggingface_hub.utils import logging as hub_logging
            from huggingface_hub.utils.tqdm import disable_progress_bars

            hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
            disable_progress_bars()
        else:
            import logging

            logging.getLogger(library).setLevel(logging.ERROR)


def keep_libraries_quiet() -> None:
    """Keep all that a training uses quiet, in this process."""
    keep_quiet(*_WHILE_TRAINING)
    # Tokenising happens in a process that may be forked, where tokenizers would warn that it gives up its own threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers quiet for a while: no bar, and no report of a checkpoint's tensors that are not used."""
    from transformers.utils import logging as transformers_logging

    verbosity, shows_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    keep_quiet("transformers")
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shows_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
