"""The published students: what their repositories and cards record of each, as data."""

from __future__ import annotations

from dataclasses import dataclass

from boomerang_cli.engine.pair.layers import default_kept_layers


@dataclass(frozen=True)
class LayerRule:
    """The numbers of ``layers.default_kept_layers``; the defaults are the paper's."""

    keep_first: int = 1
    every: int = 2
    keep_last: int = 2

    def kept(self, teacher_layers: int) -> tuple[int, ...]:
        return default_kept_layers(
            teacher_layers, every=self.every, keep_first=self.keep_first, keep_last=self.keep_last
        )


@dataclass(frozen=True)
class PublishedStudent:
    """A student on the Hub.

    Attributes:
        order: in which order blocks are best patched, where its card says so; else the family's is taken.
        rule: by which it was made. What its ``student_config.json`` holds is what counts.
        published: the day on which it was, where that is known.
        former_names: ids that the Hub redirects to it.
    """

    teacher: str
    order: str | None
    rule: LayerRule = LayerRule()
    published: str | None = None
    former_names: tuple[str, ...] = ()


_LLAMA_RULE = LayerRule(keep_first=2, keep_last=1)
_ADAPT = "2026-09-05"

PUBLISHED_STUDENTS = {
    # arXiv 2510.05064.
    "Harvard-DCML/boomerang-qwen3-2.3B": PublishedStudent("Qwen/Qwen3-4B-Base", "last"),
    "Harvard-DCML/boomerang-qwen3-4.9B": PublishedStudent("Qwen/Qwen3-8B-Base", "last"),
    "Harvard-DCML/boomerang-pythia-1.6B": PublishedStudent("EleutherAI/pythia-2.8b", "last"),
    "Harvard-DCML/boomerang-pythia-3.8B": PublishedStudent("EleutherAI/pythia-6.9b", "last"),
    "Harvard-DCML/boomerang-llama-3.2-1.9B": PublishedStudent("meta-llama/Llama-3.2-3B", "first", _LLAMA_RULE),
    # ADAPT, arXiv 2608.22854: rule 1, 2, 2 for every family, for Llama too.
    "Harvard-DCML/ADAPT-Qwen3-2.3B-Base": PublishedStudent("Qwen/Qwen3-4B-Base", "last", published=_ADAPT),
    "Harvard-DCML/ADAPT-Qwen3-2.3B-Instruct": PublishedStudent("Qwen/Qwen3-4B-Instruct-2507", "last", published=_ADAPT),
    "Harvard-DCML/ADAPT-Qwen3-8.5B-Base": PublishedStudent("Qwen/Qwen3-14B-Base", None, published=_ADAPT),
    "Harvard-DCML/ADAPT-Qwen3-8.5B": PublishedStudent("Qwen/Qwen3-14B", None, published=_ADAPT),
    "Harvard-DCML/ADAPT-Llama3.1-4.8B-Instruct": PublishedStudent(
        "meta-llama/Llama-3.1-8B-Instruct", "first", published=_ADAPT
    ),
    "Harvard-DCML/ADAPT-Olmo-3-4.3B-Instruct": PublishedStudent(
        "allenai/Olmo-3-7B-Instruct",
        "first",
        published=_ADAPT,
        former_names=("Harvard-DCML/ADAPT-Olmo3-4.3B-Instruct",),  # its card has both; which came first is not said
    ),
}
"""By the student's name on the Hub."""


def published_student(name: str) -> PublishedStudent | None:
    """Return what is known of a student of this name, its present one or a former one; None of any other."""
    if name in PUBLISHED_STUDENTS:
        return PUBLISHED_STUDENTS[name]
    return next((each for each in PUBLISHED_STUDENTS.values() if name in each.former_names), None)
