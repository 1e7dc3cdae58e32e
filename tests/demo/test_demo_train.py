"""The built-in teacher: the split of its text, its recipe end to end, and the folder that is shipped."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import boomerang_cli.demo
from boomerang_cli.demo import text
from boomerang_cli.demo.recipe import Recipe
from boomerang_cli.demo.tokens import END_OF_TEXT, batches, cut
from boomerang_cli.demo.train import main, train_teacher
from boomerang_cli.engine.errors import DataError, OutputError

TINY = Recipe(
    steps=2, layers=2, hidden_size=16, heads=2, vocabulary_size=300, context_length=16, batch_size=2, warmup_steps=1
)
SHIPPED = Path(boomerang_cli.demo.__file__).with_name("teacher")
FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def assert_older_spellings(folder: Path) -> None:
    """Programs that know no ``rope_parameters`` find the same values by Pythia's names, and version 4's tokenizer."""
    config = json.loads((folder / "config.json").read_text())
    rotary = config["rope_parameters"]
    assert (config["rotary_pct"], config["rotary_emb_base"]) == (rotary["partial_rotary_factor"], rotary["rope_theta"])
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.fixture
def documents(tmp_path: Path) -> list[Path]:
    """Two files, of 400 lines together."""
    paths = [tmp_path / "first.py", tmp_path / "second.py"]
    for path in paths:
        path.write_text("".join(f"value_{number} = {number}\n" for number in range(200)))
    return paths


def test_the_same_files_are_held_out_on_every_machine() -> None:
    names = ["poplib.py", "email/generator.py", "wave.py", "os.py", "json/decoder.py", "email/message.py"]
    assert [text.is_held_out(PurePosixPath(name)) for name in names] == [True, True, True, False, False, False]


def test_training_and_held_out_files_are_disjoint_and_sorted() -> None:
    training, held_out = text.training_files(), text.held_out_files()
    assert not set(training) & set(held_out)
    assert list(training) == sorted(training)
    assert list(held_out) == sorted(held_out)


def test_about_one_file_in_sixteen_is_held_out() -> None:
    files = len(text.training_files()) + len(text.held_out_files())
    assert len(text.held_out_files()) == pytest.approx(files / 16, rel=0.5)


@pytest.mark.parametrize(
    "name", ["test/a.py", "email/tests/a.py", "site-packages/a.py", "encodings/cp037.py", "_sysconfigdata_x.py"]
)
def test_what_is_not_library_source_is_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    for file in (tmp_path / name, tmp_path / "os.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert text.training_files() + text.held_out_files() == (tmp_path / "os.py",)


def test_a_python_without_source_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(DataError, match="no source of the standard library"):
        text.training_files()


def test_cutting_predicts_every_token_once() -> None:
    assert cut(torch.arange(9), 4)[:, 1:].flatten().tolist() == list(range(1, 9))


def test_a_pass_of_batches_holds_no_sequence_twice() -> None:
    row = torch.arange(100)
    stream = batches(row, context_length=4, batch_size=8)
    starts = torch.cat([next(stream)[:, 0] for _ in range(3)]).tolist()
    assert len(set(starts)) == 24


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    recipe = Recipe(learning_rate=1.0, warmup_steps=10)
    assert recipe.learning_rate_at(0, 0.0) == pytest.approx(0.1)
    assert recipe.learning_rate_at(9, 0.0) == 1.0
    assert recipe.learning_rate_at(50, 0.5) == pytest.approx(0.5)
    assert recipe.learning_rate_at(100, 1.0) == 0.0


def test_training_writes_a_model_that_loads(tmp_path: Path, documents: list[Path]) -> None:
    output = tmp_path / "teacher"
    train_teacher(output, TINY, documents, documents)
    assert {path.name for path in output.iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"first.py", "second.py", "teacher"}
    assert AutoModelForCausalLM.from_pretrained(output).config.num_hidden_layers == 2
    assert_older_spellings(output)


def test_training_ends_when_the_minutes_are_over(tmp_path: Path, documents: list[Path]) -> None:
    recipe = Recipe(**vars(TINY) | {"steps": math.inf, "minutes": 0.01})
    train_teacher(tmp_path / "teacher", recipe, documents, documents)
    assert "0 minutes on 1 core of" in (tmp_path / "teacher" / "README.md").read_text()


def test_an_existing_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        train_teacher(tmp_path, TINY, [], [])


def test_a_refused_script_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--output", str(tmp_path), "--steps", "1"])
    assert caught.value.code == f"error: {tmp_path} exists; give another folder with --output"


@pytest.mark.skipif(not SHIPPED.exists(), reason="no teacher has been trained")
class TestShippedTeacher:
    def test_it_is_small_and_complete(self) -> None:
        assert {path.name for path in SHIPPED.iterdir()} == FILES
        assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 8_000_000

    def test_it_is_the_recipes_model(self) -> None:
        config = AutoModelForCausalLM.from_pretrained(SHIPPED).config
        recipe = Recipe()
        assert (config.model_type, config.dtype) == ("gpt_neox", torch.bfloat16)
        assert (config.num_hidden_layers, config.hidden_size) == (recipe.layers, recipe.hidden_size)

    def test_its_files_have_the_older_spellings_too(self) -> None:
        assert_older_spellings(SHIPPED)

    def test_its_tokenizer_loses_nothing(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
        line = 'def grüße(self):\n    return f"{self.name}\\n"\n'
        assert tokenizer.decode(tokenizer(line).input_ids) == line
        assert tokenizer.eos_token == END_OF_TEXT

    @torch.inference_mode()
    def test_it_has_learnt_python(self) -> None:
        model = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
        tokens = tokenizer(text.read_text(text.held_out_files()[0])[:600], return_tensors="pt").input_ids
        assert model(tokens, labels=tokens).loss < math.log(len(tokenizer)) / 2
