"""Whether a model's files are those that were looked at before."""

from __future__ import annotations

from pathlib import Path

from hub_double import HubDouble
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.checkpoint.fingerprint import fingerprint


def test_a_model_of_the_hub_is_known_however_it_is_read(hub: HubDouble, tmp_path: Path) -> None:
    for folder in save_pair(tmp_path, "gpt_neox"):
        hub.add_model(f"lab/{folder.name}", folder)
    names = {read: fingerprint(open_checkpoint("lab/student", download=read)) for read in (False, True)}
    assert names[False] == names[True]
    assert fingerprint(open_checkpoint("lab/teacher", download=False)) not in names.values()
