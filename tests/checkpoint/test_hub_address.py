"""The address of a page of the Hub names its repository, and nothing that it does not surely name."""

from __future__ import annotations

import pytest

from boomerang_cli.engine.checkpoint.hub_address import named_by_address


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://huggingface.co/owner/name", "owner/name"),
        ("https://huggingface.co/owner/name/", "owner/name"),
        ("https://hf.co/owner/name.v1-2?library=transformers#usage", "owner/name.v1-2"),
        ("https://huggingface.co/owner/name/tree/main", "owner/name@main"),
        ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F1", "owner/name@refs/pr/1"),
        ("owner/name@main", "owner/name@main"),
    ],
)
def test_a_page_names_its_model(address: str, name: str) -> None:
    assert named_by_address(address) == name


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/datasets/owner/name",
        "https://huggingface.co/spaces/owner",
        "https://huggingface.co/owner/name/tree/main/onnx",
        "https://huggingface.co/owner/name/blob/main/config.json",
        "https://huggingface.co/owner",
        "https://huggingface.co.example.org/owner/name",
        "https://example.org/owner/name",
    ],
)
def test_what_names_no_model_stays_as_it_is(address: str) -> None:
    assert named_by_address(address) == address


def test_a_data_set_is_named_by_its_own_pages_alone() -> None:
    page = "https://huggingface.co/datasets/owner/name"
    assert named_by_address(f"{page}/tree/v1", "datasets/") == "owner/name@v1"
    assert named_by_address("https://huggingface.co/owner/name", "datasets/") == "https://huggingface.co/owner/name"


def test_pages_of_another_endpoint_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:8080/")
    assert named_by_address("http://localhost:8080/owner/name/tree/main") == "owner/name@main"
