"""Where a text model stands within a multimodal one: in its configuration, in its files, and under its image tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.errors import UnsupportedModelError


@dataclass(frozen=True)
class Wrapper:
    """What a multimodal family is beside the text model whose layers are moved.

    Attributes:
        text_type: the text model's ``model_type``, which the family's fields are about.
        section: the field of ``config.json`` that holds the text model's configuration.
        flat: whether older files have no such section, and its fields at the top.
        spellings: prefixes of tensors as other versions of transformers wrote them, each with that of the family.
        tied_text: where the class heeds the section's ``tie_word_embeddings`` too: what it is if it is absent.
        reached: the path in ``config.json`` to a list with one value for each of the first layers that image features
            are added behind, by the layers' numbers.
    """

    text_type: str
    section: str = "text_config"
    flat: bool = False
    spellings: tuple[tuple[str, str], ...] = ()
    tied_text: bool | None = None
    reached: str | None = None

    def is_flat(self, config: Mapping[str, Any]) -> bool:
        return self.flat and not isinstance(config.get(self.section), dict)

    def text_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the text model's part of a ``config.json``."""
        if self.is_flat(config):
            return config
        section = config.get(self.section)
        return section if isinstance(section, dict) else {}

    def with_text_config(self, config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
        """Return a ``config.json`` with another text model's part."""
        return dict(text) if self.is_flat(config) else {**config, self.section: dict(text)}

    def reached_layers(self, config: Mapping[str, Any], name: str) -> int:
        """Return how many of the first layers must keep their numbers.

        Raises:
            UnsupportedModelError: ``config.json`` does not say it in a list; ``name`` is the model's.
        """
        if self.reached is None:
            return 0
        path = self.reached.split(".")
        listed = reduce(_within, path, config)
        if listed is None:
            listed = reduce(_within, path, completed_config(config, name))
        if not isinstance(listed, list):
            raise UnsupportedModelError(f"{name}: config.json has no usable {self.reached}: {listed!r}")
        return len(listed)

    def spelled(self, name: str) -> str:
        """Return a tensor's name as the family has it, of a file that has another's."""
        matching = [pair for pair in self.spellings if name.startswith(pair[0])]
        theirs, ours = max(matching, key=lambda pair: len(pair[0]), default=("", ""))
        return ours + name[len(theirs) :]


def _within(config: Any, field: str) -> Any:
    return config.get(field) if isinstance(config, Mapping) else None
