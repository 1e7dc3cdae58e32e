"""What a shell offers for a value when Tab is pressed: from this folder and the cache, without a network or a word.

Whatever cannot be found out is left out: an error here would stand in the middle of a line that somebody types.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Context

if TYPE_CHECKING:
    from boomerang_cli.engine.pair.student_config import StudentConfig

Offered = list[tuple[str, str]]
"""Values, each with a word on it; shells that show no words leave it out."""


def _silent(find: Callable[[Context, str], Iterable[tuple[str, str]]]) -> Callable[..., Offered]:
    """Make a completion of what finds values: nothing is offered where it fails."""

    @wraps(find)
    def offer(ctx: Context, incomplete: str) -> Offered:
        try:
            return list(find(ctx, incomplete))
        except Exception:
            return []

    return offer


@_silent
def models(ctx: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Model folders, here and one folder below, then the Hub's models in the cache."""
    from boomerang_cli.engine.pair.student_config import is_student

    start, _, _ = incomplete.rpartition("/")
    base = Path(start).expanduser() if start else Path("/" if incomplete.startswith("/") else "")
    for folder in sorted({*_folders(base), *(inner for outer in _folders(base) for inner in _folders(outer))}):
        if (folder / "config.json").is_file():
            kind = "student" if is_student(folder) else "model"
            yield f"{start}/{folder.relative_to(base)}" if start else str(folder), kind
    for repository in sorted(_cache().glob("models--*--*")):
        yield repository.name.removeprefix("models--").replace("--", "/", 1), "in the cache"


def one_of(*names: str) -> Callable[..., Offered]:
    """Return the completion of an option that takes a few words."""
    return _silent(lambda ctx, incomplete: ((name, "") for name in names))


@_silent
def devices(ctx: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """``auto``, ``cpu``, ``mps`` on a Mac, and the GPUs that the system lists: torch would take seconds to say so."""
    yield from (("auto", "a GPU where there is one"), ("cpu", ""))
    if os.uname().sysname == "Darwin":
        yield "mps", ""
    if gpus := sorted(Path("/dev").glob("nvidia[0-9]*")):
        yield from (("cuda", ""), *((f"cuda:{gpu.name.removeprefix('nvidia')}", "") for gpu in gpus))


@_silent
def orders_to_patch(ctx: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """The orders that need no search, those of a sweep that is here, and its file."""
    from boomerang_cli.engine.pair.order import NAMED

    yield from ((name, "") for name in NAMED)
    folder = Path(ctx.params.get("results") or "sweep")
    yield from ((name, f"searched: {folder}") for name in _swept_orders(folder) if name not in NAMED)
    if (folder / "order.json").is_file():
        yield str(folder / "order.json"), "the best of the sweep"


@_silent
def orders_to_sweep(ctx: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Every order by name, also behind others and a comma."""
    from boomerang_cli.engine.pair.order import NAMED, SEARCHED

    before = incomplete[: incomplete.rfind(",") + 1]
    taken = before.split(",")
    yield from ((before + name, "") for name in (*NAMED, *SEARCHED) if name not in taken)


@_silent
def layers(ctx: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Every k of the pair at hand, with the depth that it makes."""
    yield from ((str(k), f"{depth} layers") for k, depth in enumerate(_depths(ctx)))


@_silent
def depths(ctx: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Every depth of the pair at hand, with its k."""
    yield from ((str(depth), f"k = {k}") for k, depth in enumerate(_depths(ctx)))


def _depths(ctx: Context) -> Iterator[int]:
    """Yield the depth of each size; of an order that cannot be read, those of ``last``."""
    from boomerang_cli.engine.errors import BoomerangError
    from boomerang_cli.engine.pair.order import find_order

    student = _student(ctx.params.get("student"))
    layer_map, recorded = student.layer_map, student.order
    try:
        order = find_order(str(ctx.params.get("order") or "auto"), layer_map, recorded, "last")
    except BoomerangError:
        order = find_order("auto", layer_map, recorded, "last")
    yield from (len(layer_map.sources(blocks)) for blocks in order.sets)


def _student(named: str | None) -> StudentConfig:
    """Read what the student at hand records, in its folder or in the cache's newest snapshot of it."""
    from boomerang_cli.engine.pair.pair import find_student
    from boomerang_cli.engine.pair.student_config import read_student_config

    model = str(find_student(named).model)
    if (folder := Path(model).expanduser()).is_dir():
        return read_student_config(folder)
    cached = _cache() / f"models--{model.partition('@')[0].replace('/', '--')}" / "snapshots"
    newest = max(cached.iterdir(), key=lambda folder: folder.stat().st_mtime)
    return read_student_config(newest)


def _swept_orders(folder: Path) -> list[str]:
    """Return the names of the orders that a sweep scored, each once."""
    from boomerang_cli.engine.checkpoint.json_files import read_json
    from boomerang_cli.engine.output.output_marker import RESULTS_FILE

    if not (folder / RESULTS_FILE).is_file():
        return []
    return list(dict.fromkeys(str(row["order"]) for row in read_json(folder / RESULTS_FILE)["rows"]))


def _folders(base: Path) -> list[Path]:
    """Return the folders in a folder that somebody would look at, a thousand at most."""
    if not os.access(base, os.R_OK | os.X_OK):
        return []
    seen = (entry.name for entry, _ in zip(os.scandir(base), range(1000), strict=False) if entry.is_dir())
    return [base / name for name in seen if not name.startswith(".")]


def _cache() -> Path:
    """Return the Hub's cache, as ``huggingface_hub`` finds it: importing that would take longer than a Tab should."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
