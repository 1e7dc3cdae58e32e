"""Models sent to the Hub: checked first, sent whole or not at all, through failures that pass."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from files import edit_json, names
from hub_double import HubDouble
from tiny_models import load, save_pair

from boomerang_cli.engine.checkpoint import hub_errors as hub_errors
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.errors import BoomerangError, CheckpointError, HubError, ModelNotFoundError, SelectionError
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.push import PushResult, SweepPushResult, push

REPO = "tester/model"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``teacher``, ``student`` and a model patched from them."""
    folder = tmp_path_factory.mktemp("made")
    teacher, student = save_pair(folder, "gpt_neox")
    patch(layers=1, student=student, teacher=teacher, output=folder / "patched")
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "patched", tmp_path / "patched"))


@pytest.fixture
def sweep(made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    rows = []
    for k in (0, 1, 3):
        result = patch(layers=k, student=made / "student", teacher=made / "teacher", output=folder / f"k{k}")
        rows.append(
            {"layers": k, "depth": result.depth, "parameters": result.parameters, "order": "last",
             "patched_blocks": list(result.patched_blocks), "perplexity": 10.0 - k, "kl": 0.5}
        )  # fmt: skip
    (folder / "results.json").write_text(json.dumps({"rows": rows}))
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_errors, "WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("boomerang_cli.engine.publishing.upload._WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub's own waits


def push_one(path: Path, **options: object) -> PushResult:
    result = push(path, REPO, **options)  # type: ignore[arg-type]
    assert isinstance(result, PushResult)
    return result


def test_a_pushed_model_opens_from_the_hub_as_it_was(hub: HubDouble, model: Path, tmp_path: Path) -> None:
    result = push_one(model)
    sent = hub.files(REPO)
    assert {*sent} == {*names(model), ".gitattributes"}
    assert sent[WEIGHTS] == (model / WEIGHTS).read_bytes()
    for name, content in sent.items():
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / name).write_bytes(content)
    assert load(tmp_path / "again").state_dict().keys() == load(model).state_dict().keys()
    assert (result.repo, result.revision, result.url) == (REPO, "main", f"{hub.endpoint}/{REPO}")
    assert result.commit == hub.commits(REPO)[0].oid
    assert {each.file: each.bytes for each in result.files} == {
        name: len(content) for name, content in sent.items() if name != ".gitattributes"
    }


def test_a_second_push_of_the_same_folder_makes_no_commit(hub: HubDouble, model: Path) -> None:
    first, second = push_one(model), push_one(model)
    assert first.commit == second.commit
    assert len(hub.commits(REPO)) == 2


def test_what_is_no_part_of_the_model_is_not_sent(hub: HubDouble, model: Path) -> None:
    before = names(model)
    strangers = (
        "modeling.py", "pytorch_model.bin", ".env", "stray.safetensors", "model.safetensors.index.json", "train.log",
        "model.safetensors.incomplete", "optimizer.pt", "trainer_state.json", "params.json", ".boomerang",
        ".boomerang.json", "notes.txt", "nohup.out", "id_rsa",
    )  # fmt: skip
    for name in strangers:
        (model / name).write_bytes(b"hf_secret")
    (model / "checkpoint-5").mkdir()
    (model / "checkpoint-5" / "optimizer.pt").write_bytes(b"x")
    push_one(model)
    assert {*hub.files(REPO)} == {*before, ".gitattributes"}


def test_no_path_of_this_disk_is_sent(hub: HubDouble, model: Path, made: Path) -> None:
    push_one(model)
    for name, content in hub.files(REPO).items():
        assert str(made).encode() not in content, name
    provenance = json.loads(hub.files(REPO)["boomerang.json"])
    assert (provenance["teacher"]["name"], provenance["student"]["name"]) == ("teacher", "student")


def test_a_student_is_sent_with_a_card_and_without_its_teachers_path(
    hub: HubDouble, made: Path, tmp_path: Path
) -> None:
    student = Path(shutil.copytree(made / "student", tmp_path / "student"))
    shutil.copy(made / "teacher" / "tokenizer.json", student)
    push_one(student)
    sent = hub.files(REPO)
    assert json.loads(sent["student_config.json"]).keys() == {"pruned_teacher_layers", "copied_teacher_layers"}
    assert b"boomerang patch --student tester/model --teacher TEACHER --layers K" in sent["README.md"]
    assert b"A student of 5 layers" in sent["README.md"]
    assert open_checkpoint(REPO).revision == hub.commits(REPO)[0].oid


def test_options_reach_the_hub(hub: HubDouble, model: Path) -> None:
    result = push_one(model, private=True, revision="next", message="First")
    assert hub.repos[REPO].private
    assert hub.commits(REPO, "next")[0].title == "First"
    assert {*hub.files(REPO)} == {".gitattributes"}
    assert (result.revision, result.url) == ("next", f"{hub.endpoint}/{REPO}/tree/next")


def test_a_pull_request_leaves_main_as_it_is(hub: HubDouble, model: Path) -> None:
    before = hub.add_model("lab/open", {"notes.txt": b"x"})
    result = push(model, "lab/open", create_pr=True)
    assert isinstance(result, PushResult)
    assert (result.revision, result.url) == ("refs/pr/1", f"{hub.endpoint}/lab/open/discussions/1")
    assert hub.commits("lab/open")[0].oid == before
    assert WEIGHTS in hub.files("lab/open", "refs/pr/1")


def test_a_dry_run_sends_nothing(hub: HubDouble, model: Path) -> None:
    result = push_one(model, dry_run=True)
    assert result.commit is None
    assert {each.file for each in result.files} == {*names(model)}
    assert not hub.requests


def test_a_card_of_ones_own_is_kept_in_the_folder_and_in_the_repository(hub: HubDouble, model: Path) -> None:
    hub.add_model(REPO, {"README.md": b"# Mine"})
    push_one(model)
    assert hub.files(REPO)["README.md"] == b"# Mine"
    (model / "README.md").write_text("# Another of mine")
    push_one(model)
    assert hub.files(REPO)["README.md"] == b"# Another of mine"


def test_a_card_of_ours_is_written_anew_for_its_repository(hub: HubDouble, model: Path) -> None:
    push_one(model)
    push_one(model)
    assert b'from_pretrained("tester/model")' in hub.files(REPO)["README.md"]
    assert b'from_pretrained("patched")' in (model / "README.md").read_bytes()


def test_a_sweep_is_a_repository_a_size_and_a_collection(hub: HubDouble, sweep: Path) -> None:
    result = push(sweep, "tester/family", collection=True)
    assert isinstance(result, SweepPushResult)
    assert [each.repo for each in result.models] == [f"tester/family-{depth}L" for depth in (5, 6, 8)]
    collection = next(iter(hub.collections.values()))
    assert [item["id"] for item in collection["items"]] == [each.repo for each in result.models]
    assert result.collection == f"{hub.endpoint}/collections/{collection['slug']}"
    card = hub.files("tester/family-6L")["README.md"].decode()
    assert "| **6** |" in card
    assert "| 8 |" in card
    again = push(sweep, "tester/family", collection=True)
    assert again == replace(result, models=tuple(replace(each, changed=False) for each in result.models))


def test_a_sweep_with_one_broken_model_sends_none(hub: HubDouble, sweep: Path) -> None:
    (sweep / "k3" / WEIGHTS).write_bytes(b"short")
    with pytest.raises(CheckpointError, match="is truncated"):
        push(sweep, "tester/family")
    assert not hub.requests


def test_two_models_of_one_size_are_not_sent_to_one_repository(hub: HubDouble, sweep: Path) -> None:
    shutil.copytree(sweep / "k1", sweep / "other")
    with pytest.raises(SelectionError, match="both have 6 layers"):
        push(sweep, "tester/family")
    assert not hub.requests
    (sweep / "other").rename(sweep / "6L-first")
    result = push(sweep, "tester/family", dry_run=True)
    assert isinstance(result, SweepPushResult)
    assert {each.repo for each in result.models} >= {"tester/family-6L", "tester/family-6L-first"}


def break_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def break_weights(model: Path) -> None:
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:-1])


def break_config(model: Path) -> None:
    edit_json(model / "config.json", num_hidden_layers=7)


def break_index(model: Path) -> None:
    (model / WEIGHTS).unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "gone.safetensors"}}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (break_tokenizer, "has no tokenizer"),
        (break_weights, "is truncated"),
        (break_config, "lacks the tensors gpt_neox.layers.6"),
        (break_index, "names gone.safetensors, which is missing"),
        (shutil.rmtree, "no folder"),
    ],
)
def test_a_folder_is_checked_before_a_byte_is_sent(hub: HubDouble, model: Path, break_it: object, message: str) -> None:
    break_it(model)  # type: ignore[operator]
    with pytest.raises(BoomerangError, match=message):
        push(model, REPO)
    assert not hub.requests


@pytest.mark.parametrize(
    ("repo_id", "options", "error", "message"),
    [
        ("model", {}, ModelNotFoundError, "give owner/name"),
        ("tester/a--b", {}, ModelNotFoundError, "Cannot have -- or .."),
        ("tester/model.git", {}, ModelNotFoundError, "cannot end by '.git'"),
        (REPO, {"create_pr": True, "revision": "next"}, SelectionError, "exclude one another"),
        (REPO, {"collection": True}, SelectionError, "gathers the models of a sweep"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_a_request(
    hub: HubDouble, model: Path, repo_id: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        push(model, repo_id, **options)  # type: ignore[arg-type]
    assert not hub.requests


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/whoami"),
        ("POST", "/repos/create"),
        ("POST", "/preupload/"),
        ("POST", "/objects/batch"),
        ("PUT", "/uploads/"),
        ("POST", "/commit/"),
    ],
)
@pytest.mark.parametrize("failure", ["500", "429", "cut"])
def test_a_failure_that_passes_is_one_commit_all_the_same(
    hub: HubDouble, model: Path, method: str, path: str, failure: str
) -> None:
    if failure == "cut":
        fault = hub.cut(method, path, after_bytes=1_000 if method == "PUT" else 0)
    else:
        fault = hub.fail(method, path, status=int(failure), headers={"Retry-After": "0"})
    result = push_one(model)
    assert fault.hits == 1
    assert [commit.title for commit in hub.commits(REPO)] == ["Upload with boomerang", "initial commit"]
    assert result.commit == hub.commits(REPO)[0].oid
    assert hub.files(REPO)[WEIGHTS] == (model / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/whoami", 401, "does not accept the token"),
        ("POST", "/repos/create", 403, "the token has no right to"),
        ("POST", "/preupload/", 404, "the Hub answers 404"),
        ("POST", "/objects/batch", 403, "the token has no right to"),
        ("POST", "/commit/", 409, "the Hub answers 409"),
        ("POST", "/commit/", 500, "the Hub fails with status 500"),
        ("PUT", "/uploads/", 429, "too many requests"),
    ],
)
def test_a_failure_that_stays_is_one_clear_error_and_no_commit(
    hub: HubDouble, model: Path, method: str, path: str, status: int, message: str
) -> None:
    hub.fail(method, path, status=status, times=None)
    with pytest.raises(HubError, match=message) as raised:
        push(model, REPO)
    assert hub.token not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert REPO not in hub.repos or len(hub.commits(REPO)) == 1


def test_a_token_that_only_reads_is_refused_before_a_repository_is_made(
    hub: HubDouble, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.read_token)
    with pytest.raises(HubError, match="the token may only read"):
        push(model, REPO)
    assert not hub.repos


def test_without_a_token_the_way_to_one_is_told(
    hub: HubDouble, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(HubError, match=r"cannot write to tester/model without a token: `hf auth login`"):
        push(model, REPO)


def test_another_owners_repository_is_refused(hub: HubDouble, model: Path) -> None:
    with pytest.raises(HubError, match=r"cannot write to lab/new: the token has no right to"):
        push(model, "lab/new")


def test_a_public_repository_is_not_written_to_as_a_private_one(hub: HubDouble, model: Path) -> None:
    hub.add_model(REPO, {"notes.txt": b"x"})
    with pytest.raises(HubError, match="is there and is public"):
        push(model, REPO, private=True)
    assert {*hub.files(REPO)} == {"notes.txt"}


def test_a_card_that_the_hub_does_not_take_is_one_clear_error(hub: HubDouble, model: Path) -> None:
    hub.fail(
        "POST", "/validate-yaml", status=400, body={"errors": [{"message": '"license" must be known'}], "warnings": []}
    )
    with pytest.raises(HubError, match=r'cannot write to tester/model: .*"license" must be known'):
        push(model, REPO)
    assert len(hub.commits(REPO)) == 1


def test_offline_nothing_is_sent(hub: HubDouble, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="cannot write to tester/model: HF_HUB_OFFLINE is set"):
        push(model, REPO)
    assert not hub.requests


def test_patch_writes_to_the_hub_and_leaves_nothing_on_this_disk(
    hub: HubDouble, made: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    before = names(tmp_path)
    result = patch(layers=1, student=made / "student", teacher=made / "teacher", push=REPO, private=True)
    assert result.path is None
    assert result.pushed is not None
    assert result.pushed.url == f"{hub.endpoint}/{REPO}"
    assert hub.files(REPO)[WEIGHTS] == (model / WEIGHTS).read_bytes()
    assert hub.repos[REPO].private
    assert b'from_pretrained("tester/model")' in hub.files(REPO)["README.md"]
    hub.fail("POST", "/preupload/", status=403)
    with pytest.raises(HubError, match="no right"):
        patch(layers=2, student=made / "student", teacher=made / "teacher", push=REPO)
    assert names(tmp_path / "temporary") == []
    assert set(names(tmp_path)) <= {*before, "cache"}


def test_patch_from_the_hub_to_the_hub_touches_this_disk_with_nothing_that_stays(hub: HubDouble, made: Path) -> None:
    hub.add_model("lab/teacher", made / "teacher")
    hub.add_model("lab/student", made / "student")
    patch(layers=1, student="lab/student", teacher="lab/teacher", push=REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert "base_model:\n- lab/teacher\n- lab/student\nbase_model_relation: merge" in card
    assert hub.files(REPO)[WEIGHTS] == (made / "patched" / WEIGHTS).read_bytes()


def test_push_and_output_exclude_one_another(hub: HubDouble, made: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="give one of them"):
        patch(layers=1, student=made / "student", teacher=made / "teacher", push=REPO, output=tmp_path / "out")
    assert not hub.requests


def test_what_another_tool_trained_is_sent_with_its_layers(made: Path, hub: HubDouble, tmp_path: Path) -> None:
    load(made / "patched").save_pretrained(tmp_path / "healed")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(made / "teacher" / name, tmp_path / "healed")
    push_one(tmp_path / "healed")
    sent = hub.files(REPO)
    recorded = json.loads(sent["student_config.json"])
    assert recorded["copied_teacher_layers"] == json.loads(sent["config.json"])["boomerang"]["copied_teacher_layers"]
    assert "whose training is not recorded" in sent["README.md"].decode()
