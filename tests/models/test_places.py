"""Layers of a pair on several devices: nothing is computed on another device than its weights, and no number changes.

Devices that this machine lacks are torch's fake ones: tensors without content that know where they are, and refuse to
be computed with tensors of another device, as real ones do.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import KEPT, LAYERS, save_pair
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
from boomerang_cli.engine.evaluation.stages import Stages
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.models import tensor_files
from boomerang_cli.engine.models.compose import LoadedPair, compose, load_pair
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.models.places import Places
from boomerang_cli.engine.output.plan import OWNERS
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import Pair, open_pair

FIRST, SECOND = torch.device("lazy:0"), torch.device("lazy:1")  # of which a fake needs nothing of the machine
SPLIT = Places(FIRST, (FIRST,) * 3 + (SECOND,) * (LAYERS - 3))
LAYER_MAP = LayerMap(LAYERS, KEPT)
VARIANTS = [Variant(blocks) for blocks in ((0, 1, 3), (3,), (0,), ())]
FAMILIES = ["llama", "gpt2"]


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    teacher, student = save_pair(tmp_path, request.param)
    return open_pair(student, teacher)


@pytest.fixture
def fake(pair: Pair) -> Iterator[Pair]:
    """The pair, where tensors that are made have no content."""
    with FakeTensorMode():
        yield pair


def fake_pair(pair: Pair, places: Places) -> LoadedPair:
    models: dict[str, PreTrainedModel] = {}
    loaded = LoadedPair(pair, models, places)  # type: ignore[arg-type]
    for owner in OWNERS:
        config = as_transformers_config(pair.config(owner))
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")  # the fused one asks the device
        places.hold(model, loaded.whole(owner))
        models[owner] = model.eval().requires_grad_(False)
    return loaded


def devices_of(model: PreTrainedModel, depth: int) -> list[torch.device]:
    return [next(layer.parameters()).device for layer in decoder_layers(model, depth)]


def test_each_layer_stands_where_its_block_does_and_all_else_on_the_first_device(fake: Pair) -> None:
    loaded = fake_pair(fake, SPLIT)
    assert devices_of(loaded.models["teacher"], LAYERS) == list(SPLIT.layers)
    assert devices_of(loaded.models["student"], len(KEPT)) == [SPLIT.layers[layer] for layer in KEPT]
    beside = {str(tensor.device) for model in loaded.models.values() for name, tensor in model.named_parameters()
              if "layers." not in name and ".h." not in name}  # fmt: skip
    assert beside == {"lazy:0"}


@torch.no_grad()
def test_models_taken_apart_compute_each_layer_on_its_own_device(fake: Pair) -> None:
    loaded = fake_pair(fake, SPLIT)
    stages = Stages(loaded)
    batch = stages.begin(torch.ones((2, 6), dtype=torch.int64, device=FIRST))
    models = [(variant, variant.steps(LAYER_MAP)) for variant in VARIANTS]
    ends = {
        leaf.label: stages.heads[leaf.owner].logits(leaf.hidden.flatten(0, 1)) for leaf in stages.walk(models, batch)
    }
    assert {variant: logits.device for variant, logits in ends.items()} == dict.fromkeys(VARIANTS, FIRST)


@torch.no_grad()
def test_composed_models_run_whole_on_several_devices(fake: Pair) -> None:
    loaded = fake_pair(fake, SPLIT)
    for variant in VARIANTS:
        model = compose(loaded, variant.sources(LAYER_MAP))
        assert model(input_ids=torch.ones((1, 5), dtype=torch.int64, device=FIRST)).logits.device == FIRST


def test_scores_and_weights_are_those_of_one_device(pair: Pair) -> None:
    cpu = torch.device("cpu")
    whole, split = (load_pair(pair, dtype=torch.float32, places=each) for each in (None, Places(cpu, (cpu,) * LAYERS)))
    input_ids = torch.arange(1, 9).unsqueeze(0)
    for variant in VARIANTS:
        one, other = (compose(each, variant.sources(LAYER_MAP)) for each in (whole, split))
        assert torch.equal(one(input_ids).logits, other(input_ids).logits)
    held = {parameter.data_ptr() for model in split.models.values() for parameter in model.parameters()}
    assert {parameter.data_ptr() for parameter in other.parameters()} <= held


# Read from files to several devices: the second is torch's meta device, which keeps no content.

META = torch.device("meta")
FAR = Places(torch.device("cpu"), (torch.device("cpu"),) * 3 + (META,) * (LAYERS - 3))


def load_student(folder: Path, family: str, places: Places) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return a student whole, and read to its places."""
    teacher, student = save_pair(folder, family)
    pair = open_pair(student, teacher)
    whole, placed = (load_pair(pair, dtype=torch.float32, places=each) for each in (None, places))
    return whole.models["student"], placed.models["student"]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "gpt_neox"])
def test_each_tensor_is_read_to_its_own_device_with_its_own_values(family: str, tmp_path: Path) -> None:
    whole, placed = load_student(tmp_path, family, FAR)
    assert devices_of(placed, len(KEPT)) == [FAR.layers[layer] for layer in KEPT]
    own = placed.state_dict()
    assert own.keys() == whole.state_dict().keys()
    here = {name: tensor for name, tensor in own.items() if tensor.device != META}
    assert 0 < len(here) < len(own)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in here.items())
    assert not hasattr(placed, "_hf_hook")  # accelerate's, which would move tensors too


def test_on_its_way_to_a_device_a_model_stands_in_host_memory_a_few_tensors_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, held, most = tensor_files.read_rows, 0, 0
    lock = threading.Lock()

    def count(size: int) -> None:
        nonlocal held, most
        with lock:
            held += size
            most = max(most, held)

    def read_and_count(*arguments: Any) -> torch.Tensor:
        tensor = read(*arguments)
        count(tensor.nbytes)
        weakref.finalize(tensor, count, -tensor.nbytes)
        return tensor

    monkeypatch.setattr(tensor_files, "read_rows", read_and_count)
    teacher, student = save_pair(tmp_path, "llama")
    pair = open_pair(student, teacher)
    for settings in ({"places": Places(META, (META,) * LAYERS)}, {"device": META}):
        most = 0
        load_pair(pair, dtype=torch.float32, **settings)
        assert 0 < most < pair.parts["teacher"].parameters  # a quarter of its bytes; on the CPU all


def test_a_device_that_is_too_small_says_so_and_no_file_is_blamed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*arguments: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tensor_files, "read_rows", read)
    with pytest.raises(torch.OutOfMemoryError):
        load_pair(pair, dtype=torch.float32)
