"""The metadata at the head of a README, read and checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from hub_double.messages import Answer, Json, Request
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


def card_data(readme: str) -> Json:
    block = re.match(r"\s*---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else None
    if not isinstance(data, (dict, type(None))):
        raise yaml.YAMLError("the metadata must be a mapping")
    return data or {}


@route("api", "POST", "/api/validate-yaml")
def validate_yaml(hub: HubDouble, request: Request) -> Answer:
    """Whether it is a YAML mapping; the real Hub checks the values too (`fail` with a 400 and `errors` plays that)."""
    card, errors = {}, []
    try:
        card = card_data(request.json()["content"])
    except yaml.YAMLError as error:
        errors.append(f"YAML: {error}")
    if errors and request.headers.get("accept") == "text/plain":
        return Answer(400, "\n".join(errors))
    warnings = [] if card or errors else ["empty or missing yaml metadata in repo card"]
    body = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return Answer(400 if errors else 200, body)
