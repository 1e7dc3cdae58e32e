"""What a stranger's files may not do: run code, name other files, command the terminal. And no token comes out."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from files import edit_json, names, tensor_bytes
from running import assert_refused, run
from tiny_models import LAYERS, save_pair

from boomerang_cli.cli.error_line import error
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.distillation.training_state import Saved
from boomerang_cli.engine.errors import BoomerangError, TrainingError
from boomerang_cli.engine.models.loading import load_tokenizer
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.publishing.provenance import command
from boomerang_cli.engine.publishing.publication import prepare

if TYPE_CHECKING:
    from hub_double import HubDouble

TOKEN = "hf_" + "aB3dE5" * 6


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path, "gpt_neox")


def patch_words(tmp_path: Path, *more: object) -> tuple[object, ...]:
    return ("patch", "--layers", 1, "--student", tmp_path / "student", "-o", tmp_path / "model", *more)


# No code


def test_code_of_a_model_folder_is_neither_run_nor_copied(pair: tuple[Path, Path], tmp_path: Path) -> None:
    trap = f"import os; os.mkdir({str(tmp_path / 'ran')!r})"
    for name in ("modeling.py", "tokenization.py", "__init__.py", "conftest.py", "setup.py"):
        (pair[0] / name).write_text(trap)
    (pair[0] / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    edit_json(
        pair[0] / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Evil", "AutoConfig": "modeling.Evil"}
    )
    edit_json(pair[0] / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.Evil", None]})
    run(*patch_words(tmp_path))
    load_tokenizer(open_checkpoint(pair[0]))
    assert not (tmp_path / "ran").exists()
    assert not [name for name in names(tmp_path / "model") if name.endswith(".py")]
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == "{{ ''.__class__.__mro__ }}"


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_from_the_hub_is_not_named_on(key: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    edit_json(pair[0] / "config.json", **{key: "evil/kernels"})
    run(*patch_words(tmp_path))
    assert "evil/kernels" not in (tmp_path / "model" / "config.json").read_text()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickled_weights_are_not_opened(name: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (pair[0] / "model.safetensors").unlink()
    (pair[0] / name).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    assert_refused(*patch_words(tmp_path), message="only pickled weights, which can run code")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_place_of_a_training_checkpoint_does_not_run(tmp_path: Path) -> None:
    for name in ("training.json", "training-00001-of-00001.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
        with pytest.raises(TrainingError):
            Saved.open(tmp_path)
        (tmp_path / "training.json").write_text('{"parts": 1}')
    assert not (tmp_path / "ran").exists()


# No file of elsewhere


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "README.md", "notes.txt"])
@pytest.mark.parametrize("up", [False, True])
def test_a_link_out_of_a_models_folder_is_refused(name: str, up: bool, pair: tuple[Path, Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((pair[0] / name).read_bytes() if (pair[0] / name).exists() else b"secret")
    (pair[0] / name).unlink(missing_ok=True)
    (pair[0] / name).symlink_to(Path("../secret") if up else secret)
    assert_refused(*patch_words(tmp_path), message=rf"teacher/{name} is a link to a file outside the model's folder")
    assert names(tmp_path) == ["secret", "student", "teacher"]


def test_a_pushed_folder_may_not_hold_such_a_link_either(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run(*patch_words(tmp_path))
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "model" / "special_tokens_map.json").symlink_to(tmp_path / "secret")
    with pytest.raises(BoomerangError, match="is a link to a file outside"):
        prepare(tmp_path / "model", "me/model")


def test_links_within_a_folder_and_weights_on_another_disk_are_read(pair: tuple[Path, Path], tmp_path: Path) -> None:
    expected = tensor_bytes(pair[0])
    (pair[0] / "model.safetensors").rename(tmp_path / "elsewhere")
    (pair[0] / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    (pair[0] / "LICENSE.txt").write_text("free")
    (pair[0] / "LICENSE").symlink_to("LICENSE.txt")
    run("patch", "--layers", 3, "--student", pair[1], "-o", tmp_path / "model")
    assert tensor_bytes(tmp_path / "model") == expected
    assert (tmp_path / "model" / "LICENSE").read_text() == "free"
    assert not (tmp_path / "model" / "LICENSE").is_symlink()


def test_the_hub_caches_own_links_are_read(pair: tuple[Path, Path], tmp_path: Path) -> None:
    snapshot, blobs = (tmp_path / "models--lab--big" / name for name in ("snapshots/abc", "blobs"))
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(pair[0].iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    run(*patch_words(tmp_path, "--teacher", snapshot))


def test_a_student_from_the_hub_does_not_choose_a_folder_of_this_disk(
    hub: HubDouble, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    hub.add_model("lab/small", pair[1])
    words = ("patch", "--layers", 1, "--student", "lab/small", "-o", tmp_path / "model")
    assert_refused(*words, message="lab/small records a teacher on somebody's disk, .*: give --teacher")


@pytest.mark.parametrize("kind", ["config.json", "model.safetensors", "student_config.json"])
def test_a_pipe_in_place_of_a_file_does_not_hang(kind: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (pair[1] / kind).unlink()
    os.mkfifo(pair[1] / kind)
    assert_refused(*patch_words(tmp_path), message="has no ")


# Nothing that a terminal obeys, no number that fills the memory


def test_names_from_files_reach_the_terminal_as_harmless_text(capsys: pytest.CaptureFixture[str]) -> None:
    error("a \x1b[2J name\r\n\x07 with \ud800 and " + "x" * 5000)
    shown = capsys.readouterr().err
    assert shown.startswith(r"error: a \x1b[2J name \x07 with \xd800 and xxx")
    assert len(shown) < 1100
    assert shown.count("\n") == 1


@pytest.mark.parametrize("count", [LAYERS * 1000, 10**9, 10**400], ids=["thousands", "a billion", "a googol and more"])
def test_a_configuration_cannot_ask_for_layers_without_end(count: int, pair: tuple[Path, Path], tmp_path: Path) -> None:
    edit_json(pair[0] / "config.json", num_hidden_layers=count)
    message = "holds [0-9]+ tensors, and its config.json counts [0-9]+ layers"
    assert_refused("init-student", pair[0], "-o", tmp_path / "made", message=message)


def test_json_without_end_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    os.truncate(pair[0] / "config.json", 10**12)
    assert_refused(*patch_words(tmp_path), message="has 1,000,000,000,000 bytes: JSON of more than")


# No token


def test_a_token_is_in_no_output_and_no_file(
    hub: HubDouble, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--json", "--student", pair[1], "--layers", 1)
    told = run("patch", *words, "-o", tmp_path / "model", "--verify").output
    told += run("patch", *words, "--push", "tester/model").output
    hub.fail("POST", "", status=403)
    told += run("push", tmp_path / "model", "tester/other", code=1).output
    written = b"".join(path.read_bytes() for path in (tmp_path / "model").iterdir())
    written += b"".join(hub.files("tester/model").values())
    assert hub.token not in told
    assert hub.token.encode() not in written


def test_a_token_on_the_command_line_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["boomerang", "patch", "--student", TOKEN])
    assert command() == "boomerang patch --student hf_…"


def test_a_token_in_an_error_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    error(f"cannot read https://user:{TOKEN}@host/x")
    assert TOKEN not in capsys.readouterr().err


# Temporary folders


def test_temporary_folders_are_the_users_alone(
    hub: HubDouble, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    old = os.umask(0)

    def look(done: int, total: int) -> None:
        modes.extend(stat.S_IMODE(each.stat().st_mode) for each in Path(os.environ["TMPDIR"]).iterdir())

    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    try:
        patch(layers=1, student=pair[1], push="tester/model", on_progress=look)
    finally:
        os.umask(old)
    assert set(modes) == {0o700}
    assert names(tmp_path / "temporary") == []
