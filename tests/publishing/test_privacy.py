"""What leaves by push: no path of this disk, no name of its user or host, no token, whichever file holds it."""

from __future__ import annotations

import base64
import json
import shutil
import socket
from pathlib import Path

import pytest
from distilling import RECIPE, make_project
from files import edit_json
from hub_double import HubDouble
from running import run
from safetensors.numpy import load_file, save_file
from tiny_models import save_pair

from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.publishing.cleaner import Cleaner
from boomerang_cli.engine.publishing.privacy import public
from boomerang_cli.engine.publishing.publication import prepare
from boomerang_cli.engine.push import push

REPO = "tester/model"
UNIQUE = "quiet-heron"
TOKEN = f"hf_{'Ab1' * 12}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(UNIQUE)
    teacher, student = save_pair(folder, "llama")
    patch(layers=1, student=student, teacher=teacher, output=folder / "patched")
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in a folder with a unique name, of a user and on a host with one."""
    home = tmp_path / UNIQUE / "lovelace"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return Path(shutil.copytree(made / "patched", home / "patched"))


def bytes_sent(hub: HubDouble) -> bytes:
    """Return all that arrived at the Hub, what is encoded in it too."""
    bodies = [part for request in hub.requests for part in (request.body, request.path.encode())]
    lines = [json.loads(line) for body in bodies for line in body.splitlines() if line.startswith(b'{"key"')]
    bodies += [base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"]
    return b"\n".join([*bodies, *hub.files(REPO).values()])


def test_what_a_model_was_made_in_is_in_no_byte_that_is_sent(hub: HubDouble, model: Path) -> None:
    here = str(model.parent)
    edit_json(model / "config.json", _name_or_path=f"{here}/teacher", train={"log": f"{here}/run"}, auth_token=TOKEN)
    edit_json(model / "generation_config.json", _name_or_path="~/secret/teacher", trained=f"file://{here}/x")
    edit_json(
        model / "tokenizer_config.json", name_or_path=here, vocab_file=f"{here}/vocab.json", cache_dir="C:\\lovelace"
    )
    edit_json(model / "boomerang.json", command=f"boomerang patch --student {here}/small -o ../{UNIQUE}/x")
    (model / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>", "from": [f"{here}/a.txt"]}))
    (model / "chat_template.jinja").write_text(f"{{# made in {here}/templates #}}{{{{ messages }}}} /a/b")
    (model / "metrics.jsonl").write_text(json.dumps({"step": 1, "hostname": UNIQUE, "data": f"{here}/t.txt"}) + "\n")
    weights = model / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt", "args": json.dumps({"output": f"{here}/run"})})
    (model / "README.md").write_text(
        f"---\nbase_model: /scratch/{UNIQUE}/teacher\n---\nTrained in `{here}/run`. {TOKEN}\n"
    )
    result = push(model, REPO)
    sent = bytes_sent(hub)
    for private in (UNIQUE, "lovelace", TOKEN, str(model)):
        assert private.encode() not in sent, private
    assert "config.json: _name_or_path" in result.removed
    assert "model.safetensors: args.output" in result.removed


def test_what_is_read_by_a_model_goes_out_as_it_is(hub: HubDouble, model: Path) -> None:
    edit_json(model / "config.json", _name_or_path="lab/teacher")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "/usr/bin/|/a/b"}, "behavior": "Isolated"}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit_json(
        model / "tokenizer_config.json",
        chat_template="{% if '/mnt/data/x' %}/no_think{% endif %}",
        eos_token="/a/b",
        additional_special_tokens=["/home/x/y"],
        added_tokens_decoder={"0": {"content": "/home/x/y"}},
        url="https://example.org/a/b",
    )
    before = {name: (model / name).read_bytes() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
    push(model, REPO)
    assert before.items() <= hub.files(REPO).items()


def test_a_name_that_is_no_path_is_kept_unless_a_folder_is_called_so(model: Path) -> None:
    cleaner = Cleaner(model)
    for name, kept in (("lab/teacher", True), ("gpt2", True), ("patched", False), ("a/b/c", False), ("./x", False)):
        assert ("_name_or_path" in cleaner.json("config.json", {"_name_or_path": name})) is kept, name


def test_weights_with_a_private_header_are_sent_with_another(hub: HubDouble, model: Path, tmp_path: Path) -> None:
    weights = model / "model.safetensors"
    before = load_file(weights)
    save_file(before, weights, metadata={"format": "pt", "note": f"{model}/x", "kept": "yes"})
    push(model, REPO)
    (tmp_path / "sent").write_bytes(hub.files(REPO)["model.safetensors"])
    after = load_file(tmp_path / "sent")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert b'"kept":"yes"' in (tmp_path / "sent").read_bytes()


def test_a_path_that_cannot_be_taken_out_is_refused(hub: HubDouble, model: Path) -> None:
    (model / "tokenizer.model").write_bytes(b"\x0a\x10" + f"{model.parent}/data.txt".encode())
    with pytest.raises(CheckpointError, match=r"tokenizer\.model holds a path of this disk or a token"):
        push(model, REPO)
    assert not hub.requests


def test_a_folder_as_it_was_made_names_nothing_twice(model: Path) -> None:
    prepared = prepare(model, REPO)
    assert len(set(prepared.removed)) == len(prepared.removed)
    assert not prepared.headers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("boomerang distill --data ../runs/a.txt -o runs/1/out", "boomerang distill --data a.txt -o out"),
        (f"boomerang push model me/model --token={TOKEN}", "boomerang push model me/model '--token=…'"),
        ("boomerang distill --data lab/text --teacher lab/big@refs/pr/1", None),
        ("C:\\Users\\ada\\student", "student"),
        ("file:///srv/x/student", "student"),
        ("https://example.org/a/b", None),
    ],
)
def test_our_own_documents_tell_the_last_part_of_a_path_alone(text: str, shown: str | None) -> None:
    assert public({"command": text}) == {"command": shown or text}


def test_a_distilled_student_tells_nothing_of_where_it_was_trained(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the teacher in another such folder, and all that a user types as a path."""
    away, home = tmp_path / f"{UNIQUE}-teachers", tmp_path / UNIQUE
    for folder in (away, home):
        folder.mkdir()
    make_project(away)
    (away / "student-init").rename(home / "student-init")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    data = ("--data", f"../{away.name}/train.txt", "--eval-data", away / "held-out.txt")
    words = ["distill", home / "student-init", "--teacher", away / "teacher", *data, *RECIPE, "-o", "student"]
    monkeypatch.setattr("sys.argv", ["boomerang", *map(str, words)])
    run(*words)
    edit_json(home / "student" / "config.json", _name_or_path=str(away / "teacher"))
    result = json.loads(run("push", "student", REPO, "--json").stdout)
    sent = bytes_sent(hub)
    for private in (UNIQUE, str(tmp_path), socket.gethostname() + "-", "/home/"):
        assert private.encode() not in sent, private
    assert b"boomerang distill student-init --teacher teacher --data train.txt --eval-data held-out.txt" in sent
    assert {"config.json: _name_or_path", "student_config.json: teacher"} <= {*result["removed"]}
