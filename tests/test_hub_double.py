"""The Hub's double as huggingface_hub's client meets it: pushes, downloads, refusals, faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path
from textwrap import indent
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hub_double import HubDouble

CLIENT = """
import json, pathlib, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
api, arguments = HfApi(), sys.argv[1:]
try:
{script}
except Exception as error:
    result = type(error).__name__
print(json.dumps(result))
"""
PUSH = """
api.create_repo("tester/model", private=True, exist_ok=True)
result = str(api.upload_folder(repo_id="tester/model", folder_path=arguments[0], commit_message="Push"))
"""
DOWNLOAD = """
folder = pathlib.Path(snapshot_download("lab/model", revision=arguments[0] if arguments else None))
result = {path.name: path.read_bytes().hex() for path in folder.iterdir()}
"""
WEIGHTS, CONFIG = os.urandom(50_000), b'{"model_type": "llama"}\n'
FILES = {"model.safetensors": WEIGHTS, "config.json": CONFIG, "README.md": b"---\ntags: [small]\n---\nA model.\n"}


@pytest.fixture
def hub() -> Iterator[HubDouble]:
    with HubDouble() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


def run_client(hub: HubDouble, home: Path, script: str, *arguments: str | Path, token: bool = True) -> Any:
    """What the script leaves in `result`, or the name of the exception that ended it."""
    program = CLIENT.format(script=indent(script.strip(), "    "))
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=hub.environment(home, token), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fetch(url: str, **headers: str) -> tuple[int, bytes, str | None]:
    with urlopen(Request(url, headers=headers)) as answer:
        return answer.status, answer.read(), answer.headers["Content-Range"]


def test_a_pushed_folder_is_on_the_hub_byte_for_byte_in_one_commit(
    hub: HubDouble, folder: Path, tmp_path: Path
) -> None:
    hub.multipart_bytes, hub.part_bytes = 40_000, 20_000
    url = run_client(hub, tmp_path / "home", PUSH, folder)
    files = hub.files("tester/model")
    assert files.pop(".gitattributes")
    assert files == FILES
    assert [commit.title for commit in hub.commits("tester/model")] == ["Push", "initial commit"]
    assert url == f"{hub.endpoint}/tester/model/commit/{hub.commits('tester/model')[0].oid}"
    assert hub.repos["tester/model"].private
    assert [request.bytes_received for request in hub.seen("PUT", "/parts/")] == [20_000, 20_000, 10_000]


def test_an_upload_survives_429_a_cut_and_a_lost_answer_of_the_commit(
    hub: HubDouble, folder: Path, tmp_path: Path
) -> None:
    hub.fail("POST", "/preupload/", status=429, headers={"Retry-After": "0"})
    hub.cut("PUT", "/uploads/", after_bytes=10_000)
    lost = hub.cut("POST", "/commit/")
    assert run_client(hub, tmp_path / "home", PUSH, folder) == "RemoteProtocolError"
    assert lost.hits == 1
    assert hub.files("tester/model")["model.safetensors"] == WEIGHTS
    assert [request.bytes_received for request in hub.seen("PUT")] == [10_000, len(WEIGHTS)]
    assert run_client(hub, tmp_path / "home", PUSH, folder).startswith(hub.endpoint)
    assert len(hub.commits("tester/model")) == 2


def test_a_snapshot_is_downloaded_and_the_token_stays_at_the_api(hub: HubDouble, tmp_path: Path) -> None:
    hub.page_size = 2
    hub.granted.add("lab/model")
    old = hub.add_model("lab/model", FILES, private=True)
    hub.add_model("lab/model", {"config.json": b"{}"}, private=True)
    expected = {name: content.hex() for name, content in FILES.items()}
    assert run_client(hub, tmp_path / "home", DOWNLOAD, old) == expected
    assert {request.token for request in hub.seen(server="api")} == {hub.token}
    assert {request.token for request in hub.seen(server="storage")} == {None}
    assert sum(request.bytes_sent for request in hub.seen("GET", "/objects/.*model.safetensors")) == len(WEIGHTS)


def test_a_folder_is_served_from_where_it_is(hub: HubDouble, folder: Path) -> None:
    hub.add_model("lab/model", folder)
    assert hub.files("lab/model") == FILES
    assert {blob.path.parent for blob in hub.repos["lab/model"].at("main").files.values()} == {folder}


def test_a_download_that_was_cut_or_limited_is_retried(hub: HubDouble, tmp_path: Path) -> None:
    hub.add_model("lab/model", FILES)
    hub.page_size = 2
    hub.fail("GET", "/tree/.*cursor=", status=429, headers={"Retry-After": "0"})  # older clients give up on page one
    hub.cut("GET", "/objects/", after_bytes=1_000)
    expected = {name: content.hex() for name, content in FILES.items()}
    assert run_client(hub, tmp_path / "home", DOWNLOAD) == expected
    assert len(hub.seen("GET", "/tree/.*cursor=2")) == 2
    assert [request.bytes_sent for request in hub.seen("GET", "/objects/")] == [1_000, len(WEIGHTS)]


def test_refusals_are_the_exceptions_that_the_client_names(hub: HubDouble, tmp_path: Path) -> None:
    hub.add_model("lab/open", FILES)
    hub.add_model("lab/secret", FILES, private=True)
    hub.add_model("lab/gated", FILES, gated="manual")
    hub.fail("GET", "/lab/open/resolve/.*README", status=500)
    script = f"""
def outcome(function, *arguments, **options):
    try:
        return str(type(function(*arguments, **options)).__name__)
    except Exception as error:
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        return [type(error).__name__, response.status_code]
reader = HfApi(token={hub.read_token!r})
download = hf_hub_download
result = {{
    "info": outcome(api.model_info, "lab/open", files_metadata=True),
    "gated info": outcome(api.model_info, "lab/gated"),
    "gated file": outcome(download, "lab/gated", "config.json"),
    "gated anonymous": outcome(download, "lab/gated", "config.json", token=False),
    "secret": outcome(api.model_info, "lab/secret"),
    "secret anonymous": outcome(api.model_info, "lab/secret", token=False),
    "bad token": outcome(api.whoami, token="hf_wrong"),
    "no file": outcome(download, "lab/open", "absent.json"),
    "no revision": outcome(download, "lab/open", "config.json", revision="absent"),
    "server error": outcome(download, "lab/open", "README.md"),
    "read token": outcome(reader.create_repo, "tester/new"),
    "another's name": outcome(api.create_repo, "lab/new"),
}}
"""
    assert run_client(hub, tmp_path / "home", script) == {
        "info": "ModelInfo",
        "gated info": "ModelInfo",
        "gated file": ["GatedRepoError", 403],
        "gated anonymous": ["GatedRepoError", 401],
        "secret": ["RepositoryNotFoundError", 404],
        "secret anonymous": ["RepositoryNotFoundError", 401],
        "bad token": ["HfHubHTTPError", 401],
        "no file": ["RemoteEntryNotFoundError", 404],
        "no revision": ["RevisionNotFoundError", 404],
        "server error": ["HfHubHTTPError", 500],
        "read token": ["HfHubHTTPError", 403],
        "another's name": ["HfHubHTTPError", 403],
    }


def test_branches_tags_pull_requests_and_collections_are_kept(hub: HubDouble, tmp_path: Path) -> None:
    first = hub.add_model("tester/model", FILES)
    script = """
api.create_tag("tester/model", tag="v1")
api.create_branch("tester/model", branch="next", exist_ok=True)
api.upload_file(repo_id="tester/model", revision="next", path_or_fileobj=b"{}", path_in_repo="config.json")
pull = api.upload_file(repo_id="tester/model", create_pr=True, path_or_fileobj=b"x", path_in_repo="notes/a.txt")
api.delete_file("README.md", repo_id="tester/model", revision="next")
slug = api.create_collection("A family", description="Sizes").slug
slug = api.create_collection("A family", exists_ok=True).slug
for _ in range(2):
    collection = api.add_collection_item(slug, "tester/model", "model", note="small", exists_ok=True)
refs = api.list_repo_refs("tester/model", include_pull_requests=True)
names = [ref.name for kind in (refs.branches, refs.tags, refs.pull_requests) for ref in kind]
tree = [entry.path for entry in api.list_repo_tree("tester/model", revision=pull.pr_revision)]
paths = [entry.path for entry in api.get_paths_info("tester/model", ["config.json", "absent"])]
result = [names, [(item.item_id, item.note) for item in collection.items], tree, paths, api.model_info(
    "tester/model", expand=["sha", "tags"]).sha]
"""
    names, items, tree, paths, sha = run_client(hub, tmp_path / "home", script)
    assert names == ["main", "next", "v1", "1"]
    assert items == [["tester/model", "small"]]
    assert tree == ["README.md", "config.json", "model.safetensors", "notes"]
    assert paths == ["config.json"]
    assert sha == first
    assert hub.files("tester/model", "refs/pr/1") == {**FILES, "notes/a.txt": b"x"}
    assert hub.files("tester/model", "v1") == hub.files("tester/model") == FILES
    assert hub.files("tester/model", "next") == {"model.safetensors": WEIGHTS, "config.json": b"{}"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_range_is_answered_with_those_bytes_alone(hub: HubDouble, name: str) -> None:
    content, size = FILES[name], len(FILES[name])
    url = f"{hub.endpoint}/lab/model/resolve/{hub.add_model('lab/model', FILES)}/{name}"
    assert fetch(url) == (200, content, None)
    assert fetch(url, Range="bytes=3-9") == (206, content[3:10], f"bytes 3-9/{size}")
    assert fetch(url, Range="bytes=10-") == (206, content[10:], f"bytes 10-{size - 1}/{size}")
    assert fetch(url, Range="bytes=-4") == (206, content[-4:], f"bytes {size - 4}-{size - 1}/{size}")
    with pytest.raises(HTTPError, match="416"):
        fetch(url, Range=f"bytes={size}-")
    hub.ignore_range()
    assert fetch(url, Range="bytes=3-9") == (200, content, None)


@pytest.mark.parametrize(("reset", "error"), [(False, IncompleteRead), (True, ConnectionResetError)])
def test_a_cut_connection_is_closed_or_reset(hub: HubDouble, reset: bool, error: type[Exception]) -> None:
    hub.add_model("lab/model", FILES)
    hub.cut("GET", "/objects/", after_bytes=1_000, reset=reset)
    with pytest.raises(error):
        fetch(f"{hub.endpoint}/lab/model/resolve/main/model.safetensors")
    assert hub.seen("GET", "/objects/")[0].bytes_sent == 1_000


def test_the_storage_refuses_a_token_and_an_unsigned_address(hub: HubDouble) -> None:
    hub.add_model("lab/model", FILES)
    fetch(f"{hub.endpoint}/lab/model/resolve/main/model.safetensors")
    signed = hub.storage.origin + hub.seen("GET", "/objects/")[0].path
    with pytest.raises(HTTPError, match="400"):
        fetch(signed, Authorization=f"Bearer {hub.token}")
    with pytest.raises(HTTPError, match="403"):
        fetch(signed.split("?")[0])


def test_a_slow_answer_comes_at_its_rate(hub: HubDouble) -> None:
    hub.add_model("lab/model", FILES)
    hub.slow("GET", "/objects/", bytes_per_second=len(WEIGHTS) / 0.3)
    start = time.monotonic()
    fetch(f"{hub.endpoint}/lab/model/resolve/main/model.safetensors")
    assert time.monotonic() - start >= 0.3
