"""The house: rooms in the order of the flow, imports that run down only, and no two files that import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "boomerang_cli"

FLOORS = (
    (
        "boomerang_cli.version", "engine.brief", "engine.errors", "engine.sizes", "engine.quiet", "engine.waiting",
        "boomerang_cli.demo",
    ),
    ("engine.checkpoint",),
    ("engine.pair",),
    ("engine.output",),
    ("engine.processes",),
    ("engine.models",),
    ("engine.distillation", "engine.evaluation", "engine.publishing"),
    (
        "engine.init_student", "engine.distill", "engine.patch", "engine.sweep", "engine.push", "engine.demo",
        "engine.info",
    ),
    ("boomerang_cli",),  # what Python users import
    ("boomerang_cli.cli",),
    ("boomerang_cli.__main__",),
)  # fmt: skip
"""From the ground up; a place that is longer than another says more of a file."""


@dataclass(frozen=True)
class Import:
    """A line that imports a module, seen from the file that it stands in."""

    importer: str
    imported: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.importer.replace('.', '/')}.py:{self.line}: {self.text}"


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    """The package's files by their dotted names; a folder's own name stands for its ``__init__.py``."""
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@pytest.fixture(scope="module")
def imports(files: Mapping[str, Path]) -> list[Import]:
    return [each for name, path in files.items() for each in _imports_of(name, path, files)]


def _imports_of(name: str, path: Path, files: Mapping[str, Path]) -> Iterator[Import]:
    """Yield what a file imports, also within functions and for type checkers alone."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        text = lines[node.lineno - 1].strip()
        if isinstance(node, ast.Import):
            yield from (Import(name, alias.name, node.lineno, text) for alias in node.names)
            continue
        assert node.level == 0, f"{path}:{node.lineno}: {text} is relative"
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        modules = {each if each in files else str(node.module) for each in inner}
        yield from (Import(name, module, node.lineno, text) for module in modules)


def _floor(name: str) -> int:
    """Return the floor of the place in ``FLOORS`` that says most of a file."""
    places = {
        place if place.startswith("boomerang_cli") else f"boomerang_cli.{place}": number
        for number, floor in enumerate(FLOORS)
        for place in floor
    }
    fitting = [place for place in places if name == place or name.startswith(f"{place}.")]
    return places[max(fitting, key=len)]


def _room(name: str) -> str:
    """Return the folder below ``engine`` that a file stands in, or its own name."""
    return ".".join(name.split(".")[:3])


def test_every_file_of_the_engine_stands_in_a_room_or_is_a_verb(files: Mapping[str, Path]) -> None:
    rooms = {_room(name) for name in files if name.startswith("boomerang_cli.engine.")}
    assert rooms == {f"boomerang_cli.{place}" for floor in FLOORS for place in floor if place.startswith("engine.")}


def test_no_import_runs_up(imports: list[Import]) -> None:
    ours = [each for each in imports if each.imported.startswith("boomerang_cli")]
    rising = [str(each) for each in ours if _floor(each.imported) > _floor(each.importer)]
    assert not rising, "\n".join(rising)


def test_no_files_import_one_another_in_a_circle(imports: list[Import], files: Mapping[str, Path]) -> None:
    arrows = [each for each in imports if each.imported in files]
    # What imports none of the rest, or is imported by none of it, stands in no circle: taken away until nothing is.
    while True:
        importers, imported = {each.importer for each in arrows}, {each.imported for each in arrows}
        circling = [each for each in arrows if each.imported in importers and each.importer in imported]
        if len(circling) == len(arrows):
            break
        arrows = circling
    assert not arrows, "\n".join(map(str, arrows))


def test_rooms_on_one_floor_do_not_import_one_another_both_ways(imports: list[Import]) -> None:
    between = {(_room(each.importer), _room(each.imported)): str(each) for each in imports}
    both = [line for (one, other), line in between.items() if one != other and (other, one) in between]
    assert not both, "\n".join(both)


def test_the_engine_knows_nothing_of_terminals(imports: list[Import]) -> None:
    seen = [
        str(each)
        for each in imports
        if each.importer.startswith("boomerang_cli.engine")
        and each.imported.startswith(("boomerang_cli.cli", "typer", "rich", "click"))
    ]
    assert not seen, "\n".join(seen)
