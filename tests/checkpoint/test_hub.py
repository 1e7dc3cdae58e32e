"""Models read from the Hub: by range or from the cache, at one commit, through failures that pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from files import entry, names, tensor_bytes, write_raw
from hub_double import HubDouble
from huggingface_hub import constants
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint import hub_errors as hub_errors
from boomerang_cli.engine.checkpoint import hub_reading as hub_module
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.checkpoint.files import RemoteFile, SourceFile
from boomerang_cli.engine.errors import BoomerangError, CheckpointError, HubError, ModelNotFoundError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output.writer import write_model
from boomerang_cli.engine.patch import PatchResult, patch

WEIGHTS = "model.safetensors"
PASSING: list[tuple[int, dict[str, str]]] = [(500, {}), (503, {}), (429, {"Retry-After": "0"})]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A teacher and a student on this disk; the student records no teacher."""
    teacher, student = save_pair(tmp_path_factory.mktemp("pair"), "gpt_neox")
    record = json.loads((student / "student_config.json").read_text())
    del record["teacher"]
    (student / "student_config.json").write_text(json.dumps(record))
    return teacher, student


@pytest.fixture
def pair(hub: HubDouble, folders: tuple[Path, Path]) -> HubDouble:
    """The same two as lab/teacher and lab/student."""
    for folder in folders:
        hub.add_model(f"lab/{folder.name}", folder)
    return hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_errors, "WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("boomerang_cli.engine.checkpoint.hub_reading._WAITS_SECONDS", (0.0,))


def patch_from_hub(output: Path, **options: object) -> PatchResult:
    return patch(**{"layers": 1, "student": "lab/student", "teacher": "lab/teacher", "output": output, **options})  # type: ignore[arg-type]


def weights_requested(hub: HubDouble) -> int:
    return sum(request.bytes_sent for request in hub.seen("GET", rf"/objects/.*{WEIGHTS}"))


@pytest.mark.parametrize("piece_bytes", [2**22, 1_000])
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_patch_by_ranges_is_the_patch_of_local_folders(
    pair: HubDouble,
    folders: tuple[Path, Path],
    tmp_path: Path,
    dtype: str,
    piece_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("boomerang_cli.engine.output.moves._FETCH_BYTES", piece_bytes)
    patch(layers=1, student=folders[1], teacher=folders[0], output=tmp_path / "local", dtype=dtype)
    patch_from_hub(tmp_path / "remote", dtype=dtype)
    assert tensor_bytes(tmp_path / "remote") == tensor_bytes(tmp_path / "local")
    assert names(tmp_path / "remote") == names(tmp_path / "local")
    for name in (WEIGHTS, "tokenizer.json"):
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    remote, local = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("remote", "local"))
    assert remote["boomerang"].pop("teacher") == "lab/teacher"  # a folder's name would mean nothing elsewhere
    assert remote["boomerang"].pop("teacher_revision")
    assert remote == local


def test_a_patch_fetches_the_headers_and_the_bytes_of_its_plan(pair: HubDouble, tmp_path: Path) -> None:
    result = patch_from_hub(tmp_path / "out")
    sizes = [tensor.size_bytes for tensor in (copy.source for copy in result.plan.copies)]
    whole = pair.files("lab/student")[WEIGHTS], pair.files("lab/teacher")[WEIGHTS]
    assert weights_requested(pair) <= sum(sizes) + 2 * 100_000
    assert sum(sizes) < len(whole[0]) + len(whole[1])
    assert sum(result.plan.fetch_bytes.values()) == sum(sizes) + sum(file.size_bytes for file in result.plan.companions)


def test_the_cache_holds_no_weights_after_a_patch_by_ranges(pair: HubDouble, tmp_path: Path) -> None:
    patch_from_hub(tmp_path / "out")
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []


def test_a_dry_run_reads_headers_alone(pair: HubDouble, tmp_path: Path) -> None:
    patch_from_hub(tmp_path / "out", dry_run=True, download=True)
    assert weights_requested(pair) <= 2 * 100_000
    assert not pair.seen("GET", "/resolve/.*tokenizer")
    assert not (tmp_path / "out").exists()


def test_a_student_is_made_by_ranges(pair: HubDouble, folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = init_student("lab/teacher", output=tmp_path / "remote")
    init_student(folders[0], output=tmp_path / "local")
    assert tensor_bytes(tmp_path / "remote") == tensor_bytes(tmp_path / "local")
    assert made.teacher == "lab/teacher"
    record = json.loads((tmp_path / "remote" / "student_config.json").read_text())
    assert record["teacher_revision"] == pair.commits("lab/teacher")[0].oid


def test_shards_that_are_cached_are_used_and_the_others_read_by_range(
    hub: HubDouble, tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    from huggingface_hub import hf_hub_download

    teacher, student = save_pair(tmp_path, "gpt_neox", max_shard_size="60KB")
    shards = sorted(path.name for path in teacher.glob("*.safetensors"))
    commit = hub.add_model("lab/teacher", teacher)
    hf_hub_download("lab/teacher", shards[0], revision=commit)
    opened = open_checkpoint("lab/teacher", download=False)
    assert {name: type(opened.files[name]) for name in shards} == {
        name: SourceFile if name == shards[0] else RemoteFile for name in shards
    }
    hub.requests.clear()
    patch(layers=3, student=student, teacher="lab/teacher", output=tmp_path / "remote")
    patch(layers=3, student=student, teacher=teacher, output=tmp_path / "local")
    assert tensor_bytes(tmp_path / "remote") == tensor_bytes(tmp_path / "local")
    assert not hub.seen("GET", f"filename={shards[0]}")


def test_with_download_both_models_come_whole_and_once(pair: HubDouble, tmp_path: Path) -> None:
    patch_from_hub(tmp_path / "one", download=True)
    pair.requests.clear()
    patch_from_hub(tmp_path / "two", download=True)
    patch_from_hub(tmp_path / "three")
    assert tensor_bytes(tmp_path / "three") == tensor_bytes(tmp_path / "one")
    assert not pair.seen(server="storage")


def test_a_download_is_told_of_byte_by_byte(pair: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(hub_module, "on_download", lambda *news: told.append(news))
    open_checkpoint("lab/teacher")
    rest = {name: len(content) for name, content in pair.files("lab/teacher").items() if name != "config.json"}
    whole = sum(rest.values())  # config.json, which says what the rest is, was read before
    assert told[-1] == ("lab/teacher", whole, whole)


@pytest.mark.parametrize("reset", [False, True])
def test_a_range_that_is_cut_goes_on_where_it_ended(pair: HubDouble, tmp_path: Path, reset: bool) -> None:
    patch_from_hub(tmp_path / "whole")
    pair.cut("GET", f"/lab/teacher/objects/.*{WEIGHTS}", after_bytes=7_000, reset=reset)
    pair.requests.clear()
    patch_from_hub(tmp_path / "cut")
    assert tensor_bytes(tmp_path / "cut") == tensor_bytes(tmp_path / "whole")
    starts = [request.range for request in pair.seen("GET", f"/lab/teacher/objects/.*{WEIGHTS}")]
    assert reset or "bytes=7000-" in str(starts[1])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [(path, *failure) for path in ("/objects/", "/resolve/", "/api/models/") for failure in PASSING]
    + [("/objects/", 403, {})],  # of the storage: a signed address has run out
)
def test_a_failure_that_passes_is_not_noticed(
    pair: HubDouble, tmp_path: Path, path: str, status: int, headers: dict[str, str]
) -> None:
    fault = pair.fail(None, path, status=status, headers=headers)
    patch_from_hub(tmp_path / "out")
    assert fault.hits == 1


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_is_always_cut_is_one_clear_error_and_nothing_on_disk(pair: HubDouble, tmp_path: Path) -> None:
    pair.cut("GET", f"/objects/.*{WEIGHTS}", after_bytes=0, times=None)
    with pytest.raises(HubError, match="cannot read lab/student: the connection to the Hub fails"):
        patch_from_hub(tmp_path / "out")
    assert names(tmp_path) == ["cache"]


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_fails_in_the_middle_of_writing_leaves_nothing(pair: HubDouble, tmp_path: Path) -> None:
    plan = patch_from_hub(tmp_path / "out", dry_run=True).plan
    pair.fail("GET", "/lab/teacher/objects/", status=500, times=None)
    with pytest.raises(HubError, match="cannot read lab/teacher: the Hub fails with status 500"):
        write_model(plan, tmp_path / "out", "patched")
    assert names(tmp_path) == ["cache"]


def test_a_server_without_ranges_is_refused_with_the_way_out(pair: HubDouble, tmp_path: Path) -> None:
    pair.ignore_range("/lab/teacher/objects/")
    with pytest.raises(HubError, match=r"lab/teacher/model\.safetensors: the Hub serves it whole \(try --download\)"):
        patch_from_hub(tmp_path / "out")
    assert names(tmp_path) == ["cache"]
    patch_from_hub(tmp_path / "out", download=True)


def test_all_bytes_come_from_the_commit_that_was_found_first(
    pair: HubDouble, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    commit = pair.commits("lab/teacher")[0].oid
    opened = open_checkpoint("lab/teacher", download=False)
    pair.add_model("lab/teacher", {"config.json": b"{}"})
    assert opened.revision == commit
    patch_from_hub(tmp_path / "out", teacher=f"lab/teacher@{commit}")
    asked = {request.path.split("/resolve/")[1].split("/")[0] for request in pair.seen(path="/lab/teacher/resolve/")}
    assert asked == {commit}


def test_a_file_that_is_not_the_listed_one_is_refused(pair: HubDouble) -> None:
    pair.fail("HEAD", f"/resolve/.*/{WEIGHTS}", status=200, headers={"X-Repo-Commit": "f" * 40, "ETag": '"x"'})
    with pytest.raises(CheckpointError, match=f"is not what the Hub listed: .* at commit {'f' * 40}"):
        open_checkpoint("lab/teacher", download=False)


def test_the_token_goes_to_the_hub_alone(pair: HubDouble, tmp_path: Path) -> None:
    patch_from_hub(tmp_path / "out")
    assert {request.token for request in pair.seen(server="api")} == {pair.token}
    assert {request.token for request in pair.seen(server="storage")} == {None}


def test_the_token_is_dropped_where_the_hub_itself_sends_a_range_elsewhere(pair: HubDouble) -> None:
    commit, whole = pair.commits("lab/teacher")[0].oid, pair.files("lab/teacher")[WEIGHTS]
    here = {"X-Repo-Commit": commit, "ETag": '"x"'}
    pair.fail("HEAD", f"/resolve/.*/{WEIGHTS}", status=200, headers=here, body=whole)
    assert open_checkpoint("lab/teacher", download=False).tensors
    (asked,) = pair.seen("GET", f"/resolve/.*/{WEIGHTS}")
    assert asked.token == pair.token
    assert [request.token for request in pair.seen(server="storage")] == [None]


@pytest.mark.parametrize("revision", ["v1", "main", "next", "refs/pr/1", "commit"])
def test_a_revision_is_a_branch_a_tag_a_commit_or_a_pull_request(pair: HubDouble, revision: str) -> None:
    repo = pair.repos["lab/teacher"]
    first = pair.commits("lab/teacher")[0]
    for ref in ("refs/tags/v1", "refs/heads/next", "refs/pr/1"):
        repo.refs[ref] = first
    if revision != "main":
        pair.add_model("lab/teacher", {"config.json": b"{}"})
    name = f"lab/teacher@{first.oid if revision == 'commit' else revision}"
    assert open_checkpoint(name, download=False).revision == first.oid
    assert open_checkpoint(name).revision == first.oid


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("lab/gated", "lab/gated is gated: ask for access on its page, then `hf auth login`"),
        ("lab/secret", r"no model lab/secret, .* \(if it is private: `hf auth login`\)"),
        ("lab/nothing", "no model lab/nothing"),
        ("lab/teacher@v9", "lab/teacher has no revision v9"),
        ("lab/a--b", "'lab/a--b' is no name of a repository: Cannot have -- or .."),
        ("lab/model.git", "'lab/model.git' is no name of a repository"),
        ("lab/" + "a" * 97, "is no name of a repository: .* maximum length is 96.*'$"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_error(pair: HubDouble, model: str, message: str, download: bool) -> None:
    pair.add_model("lab/gated", {"config.json": b"{}", WEIGHTS: b"x"}, gated=True)
    pair.add_model("lab/secret", {"config.json": b"{}", WEIGHTS: b"x"}, private=True)
    with pytest.raises(ModelNotFoundError, match=message) as raised:
        open_checkpoint(model, download=download)
    assert pair.token not in str(raised.value)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "does not accept the token"),
        (403, {"X-Error-Message": "no"}, r"the token has no right to \(no\)"),
        (409, {}, "the Hub answers 409"),
        (429, {"Retry-After": "900"}, "too many requests, the Hub asks to wait 900 seconds"),
        (500, {}, "the Hub fails with status 500"),
    ],
)
def test_a_failure_that_stays_is_one_clear_error(
    pair: HubDouble, status: int, headers: dict[str, str], message: str, download: bool
) -> None:
    pair.fail("GET", "/api/models/", status=status, headers=headers, times=None)
    with pytest.raises(HubError, match=message):
        open_checkpoint("lab/teacher", download=download)


def test_a_repository_of_pickles_is_refused_with_the_way_out(hub: HubDouble) -> None:
    hub.add_model("lab/old", {"config.json": b"{}", "pytorch_model.bin": b"\x80\x02."})
    for download in (False, True):
        with pytest.raises(CheckpointError, match=r"lab/old has no model.safetensors, only pickled weights.*convert"):
            open_checkpoint("lab/old", download=download)
    assert not hub.seen(server="storage")


def test_a_long_header_is_read_in_two_requests(hub: HubDouble, tmp_path: Path) -> None:
    header = {f"{'x' * 60}.{number}": entry(number, number + 1) for number in range(2_000)}
    weights = write_raw(tmp_path / WEIGHTS, header, bytes(2_000)).read_bytes()
    hub.add_model("lab/long", {"config.json": b"{}", WEIGHTS: weights})
    assert len(open_checkpoint("lab/long", download=False).tensors) == 2_000
    assert len(hub.seen("GET", "/objects/")) == 2


def test_a_truncated_file_on_the_hub_is_refused(pair: HubDouble, folders: tuple[Path, Path]) -> None:
    files = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    pair.add_model("lab/teacher", {**files, WEIGHTS: files[WEIGHTS][:-10]})
    with pytest.raises(CheckpointError, match=r"lab/teacher/model\.safetensors is truncated"):
        open_checkpoint("lab/teacher", download=False)


def test_offline_the_cache_is_used_or_what_is_missing_is_said(
    pair: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_from_hub(tmp_path / "online", download=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pair.requests.clear()
    patch_from_hub(tmp_path / "offline")
    assert tensor_bytes(tmp_path / "offline") == tensor_bytes(tmp_path / "online")
    with pytest.raises(HubError, match="lab/other is not in the local cache, and HF_HUB_OFFLINE is set"):
        open_checkpoint("lab/other", download=False)
    next((tmp_path / "cache").rglob("models--lab--teacher/**/model.safetensors")).unlink()
    with pytest.raises(HubError, match=r"holds lab/teacher without model\.safetensors, and HF_HUB_OFFLINE is set"):
        patch_from_hub(tmp_path / "more")
    assert not pair.requests


def test_a_hub_out_of_reach_leaves_what_the_cache_holds(
    pair: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_checkpoint("lab/teacher")
    monkeypatch.setattr("boomerang_cli.engine.checkpoint.hub_reading._WAITS_SECONDS", ())
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert open_checkpoint("lab/teacher", download=False).revision == pair.commits("lab/teacher")[0].oid
    with pytest.raises(BoomerangError, match="lab/student is not in the local cache, and cannot read lab/student"):
        open_checkpoint("lab/student", download=False)
