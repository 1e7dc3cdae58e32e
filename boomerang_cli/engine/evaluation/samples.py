"""``samples.md``: what every size writes behind each prompt, one below the other, for whoever wants to see it talk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.publishing.fenced import fenced
from boomerang_cli.engine.sizes import show_count


def samples_document(rows: Sequence[SweepRow], asked: Mapping[str, Any], patchable: int) -> str:
    """Return Markdown, prompt by prompt; a model that stands in several rows stands there once.

    Args:
        asked: what ``asked.Asked.as_json`` tells.
        patchable: the number of patchable blocks.
    """
    models: dict[tuple[int, ...], list[SweepRow]] = {}
    for row in sorted(rows, key=lambda row: row.parameters):
        models.setdefault(row.patched_blocks, []).append(row)
    parts = ["# Samples", f"Greedy, at most {asked['new_tokens']} tokens each."]
    if system := asked.get("system_instruction"):
        parts += ["System instruction:", fenced(system)]
    for index, prompt in enumerate(asked["prompts"]):
        parts += [f"## Prompt {index + 1}", fenced(prompt)]
        for same in models.values():
            text = (same[0].samples or ())[index]["text"]
            parts += [f"### {_title(same, patchable)}", fenced(text) if text.strip() else "*It writes nothing.*"]
    return "\n\n".join(parts) + "\n"


def _title(rows: Sequence[SweepRow], patchable: int) -> str:
    row = rows[0]
    title = f"{row.depth} layers, {show_count(row.parameters)}, k = {row.layers}"
    if row.layers in (0, patchable):
        return f"{title}: the {'teacher' if row.layers else 'student'}"
    return f"{title}, {' = '.join(map(_order, rows))}"


def _order(row: SweepRow) -> str:
    name = " ".join(row.order.split()).replace("`", "'")  # an order file may name itself anything
    return f"`{name}`"
