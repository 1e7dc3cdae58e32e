"""What every type of the table keeps of a text: counted by its config, against transformers' own caches.

    python benchmarks/cache.py [TYPE ...]

Prints `equal`, `refused`, or `differs` with both numbers of bytes for each type; fails if any differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from cache_proof import counted, real
from tiny_types import tiny_config, tiny_model

from boomerang_cli.engine.checkpoint.families import ENCODERS, FAMILIES, MASKED
from boomerang_cli.engine.checkpoint.family_table import derived_rows
from boomerang_cli.engine.errors import UnsupportedModelError


def compare(model_type: str) -> str:
    model = tiny_model(tiny_config(model_type), 1).to(torch.bfloat16)
    try:
        found = counted(json.loads(model.config.to_json_string(use_diff=False)))
    except UnsupportedModelError:
        return "refused"
    held = real(model)
    return "equal" if found == held else f"differs: {found:,} counted, {held:,} held"


def main() -> None:
    table = [name for name, row in derived_rows().items() if "refused" not in row and "wrapper" not in row]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE", default=sorted({*table, *FAMILIES} - ENCODERS - MASKED))
    names = parser.parse_args().types
    told = {name: compare(name) for name in names}
    for name, what in told.items():
        print(f"{name:24}{what}")
    sys.exit(any(what.startswith("differs") for what in told.values()))


if __name__ == "__main__":
    main()
