"""Conversion of bytes: bit for bit as torch converts."""

from __future__ import annotations

import pytest
import torch

from boomerang_cli.engine.checkpoint.dtypes import convert, has_only_finite, read_numbers
from boomerang_cli.engine.errors import OutputError

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
VALUES = torch.cat(
    [
        torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.tensor([0.0, -0.0, 1e-7, 6e-8, -1e-40, 65504.0, 1 + 2**-9, 1 + 3 * 2**-9, float("inf"), -float("inf")]),
    ]
)


def raw(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.contiguous().view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("target", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("source", TORCH)
def test_conversion_rounds_as_torch_does(source: str, target: str) -> None:
    values = VALUES.clamp(-60000, 60000).to(TORCH[source])
    if source == "F64" and target == "BF16":
        values = values.float().double()  # torch rounds twice on this way
    assert bytes(convert(raw(values), source, target, "x")) == bytes(raw(values.to(TORCH[target])))


def test_infinities_that_were_there_before_are_no_loss() -> None:
    assert bytes(convert(raw(VALUES.float()), "F32", "F16", "x")) == bytes(raw(VALUES.float().half()))


@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_values_beyond_float16_are_refused(value: float) -> None:
    with pytest.raises(OutputError, match="weight holds values beyond float16's largest, 65504"):
        convert(raw(torch.tensor([1.0, value])), "F32", "F16", "weight")


def test_not_a_number_stays_not_a_number() -> None:
    converted = convert(raw(torch.tensor([float("nan")])), "F32", "F16", "x")
    assert torch.frombuffer(bytearray(converted), dtype=torch.float16).isnan().all()


@pytest.mark.parametrize("stored", TORCH)
def test_the_largest_number_is_finite_and_the_next_is_not(stored: str) -> None:
    def is_finite(value: float) -> bool:
        return has_only_finite(read_numbers(raw(torch.tensor([1.0, value], dtype=TORCH[stored])), stored), stored)

    largest = torch.finfo(TORCH[stored]).max
    assert [is_finite(each) for each in (largest, -largest, 0.0)] == [True] * 3
    assert [is_finite(each) for each in (float("inf"), -float("inf"), float("nan"))] == [False] * 3
