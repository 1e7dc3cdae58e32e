"""Documents: several sources as one stream, shuffled.

The shuffle buffer is bounded, and the order is the same at any version of the libraries: the shuffle is our own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

SHUFFLE_DOCUMENTS = 100_000
HUB_SHUFFLE_CHARACTERS = 2**30
LOCAL_SHUFFLE_CHARACTERS = 2**26
"""The shuffle buffer holds at most so many documents and so many characters. 100,000 documents is the published
students' recipe, about 0.6 GB of the Pile; the bound of 1 GB is there for datasets of whole books. Local text is kept
to 64 MB, as it is read on laptops too; 4,000 pieces of a .txt file fit."""


Document = TypeVar("Document", bound=Sized)  # its length is in characters
Held = TypeVar("Held", bound=Sized, covariant=True)


class DocumentSource(Protocol[Held]):
    """Text, or conversations."""

    @property
    def is_remote(self) -> bool: ...

    def documents(self, shuffler: random.Random | None = None) -> Iterator[Held]: ...


def read_documents(sources: Iterable[DocumentSource[Document]], seed: int | None = None) -> Iterator[Document]:
    """Yield a document of each source in turn until all have ended; shuffled if there is a ``seed``.

    In turn, so that each source is in every part of the stream: a run that stops early has seen them all.
    """
    sources = tuple(sources)
    if seed is None:
        return _in_turn(source.documents() for source in sources)
    shuffler = random.Random(seed)
    remote = any(source.is_remote for source in sources)
    return _shuffle(
        _in_turn(source.documents(shuffler) for source in sources),
        shuffler,
        HUB_SHUFFLE_CHARACTERS if remote else LOCAL_SHUFFLE_CHARACTERS,
    )


def _in_turn(streams: Iterable[Iterator[Document]]) -> Iterator[Document]:
    streams = list(streams)
    while streams:
        for stream in tuple(streams):
            if (document := next(stream, None)) is None:
                streams.remove(stream)
            else:
                yield document


def _shuffle(documents: Iterable[Document], shuffler: random.Random, at_most_characters: int) -> Iterator[Document]:
    buffer: list[Document] = []

    def draw() -> Document:
        # Of all methods, only random() gives the same numbers in every version of Python.
        index = int(shuffler.random() * len(buffer))
        buffer[index], buffer[-1] = buffer[-1], buffer[index]
        return buffer.pop()

    characters = 0
    for document in documents:
        buffer.append(document)
        characters += len(document)
        while len(buffer) > SHUFFLE_DOCUMENTS or characters > at_most_characters:
            drawn = draw()
            characters -= len(drawn)
            yield drawn
    while buffer:
        yield draw()
