"""Sizes as people write them."""

from __future__ import annotations

import pytest

from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.sizes import parse_bytes, parse_count, show_bytes, show_count


@pytest.mark.parametrize(
    ("text", "count"), [("2B", 2 * 10**9), ("1.6b", 16 * 10**8), ("410M", 41 * 10**7), ("7k", 7000), ("2e9", 2 * 10**9)]
)
def test_numbers_of_parameters(text: str, count: int) -> None:
    assert parse_count(text, "--params") == count


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("4GiB", 2**32), ("0.5 kb", 500), ("512MiB", 2**29), ("1000", 1000)]
)
def test_numbers_of_bytes(text: str, size: int) -> None:
    assert parse_bytes(text, "--size") == size


@pytest.mark.parametrize("text", ["", "B", "-1B", "1.5.2M", "two", "1e999", "nan", "0", "4XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match=r"--params .* is not a number of parameters"):
        parse_count(text, "--params")


def test_sizes_are_shown_in_the_units_of_the_hub() -> None:
    assert [show_count(n) for n in (7, 7000, 2_775_208_960)] == ["7", "7.00K", "2.78B"]
    assert [show_bytes(n) for n in (7, 7000, 5_550_417_920)] == ["7 B", "7.00 kB", "5.55 GB"]
