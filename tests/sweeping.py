"""The pair that tests sweep, and how a refusal of it reads."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import KEPT, LAYERS

from boomerang_cli.engine.errors import BoomerangError
from boomerang_cli.engine.pair.layers import LayerMap

EVALUATION = "boomerang_cli.engine.evaluation.evaluation.Evaluation"
LAYER_MAP = LayerMap(LAYERS, KEPT)
N = 3


def line(error: type[BoomerangError], run: Any, **settings: Any) -> str:
    with pytest.raises(error) as raised:
        run(**settings)
    message = str(raised.value)
    assert "\n" not in message
    return message
