"""What a package index and a code host read: versions, links, the Pythons that are tested."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from boomerang_cli.version import __version__

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
ADDRESSED = [
    "CITATION.cff",
    "SECURITY.md",
    ".github/ISSUE_TEMPLATE/config.yml",
    "boomerang_cli/cli/panels.py",
    "pyproject.toml",
]


def test_the_citation_names_the_packages_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md"])
def test_every_relative_link_leads_to_a_file(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def pythons_of_ci() -> list[str]:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    pythons: list[str] = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]
    return pythons


def test_ci_runs_the_pythons_that_the_classifiers_name() -> None:
    assert pythons_of_ci() == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)


def test_each_python_of_ci_has_one_pin_of_each_dependency() -> None:
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    asked = set(re.findall(r'^    "(\w+)>=', PYPROJECT, re.MULTILINE))
    for python in pythons_of_ci():
        names = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python})]
        assert len(names) == len(set(names)), python
        assert asked <= set(names), python


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_what_an_index_shows_of_readme_has_no_relative_link() -> None:
    import tomllib

    text = (ROOT / "README.md").read_text()
    hook = tomllib.loads(PYPROJECT)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in hook["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", text) == []
    assert "](https://github.com/boomerang-cli/boomerang/blob/" in text


def test_one_address_of_the_repository_stands_everywhere() -> None:
    found = {name: set(re.findall(r"github\.com/[\w-]+/[\w-]+", (ROOT / name).read_text())) for name in ADDRESSED}
    assert found == {name: {"github.com/boomerang-cli/boomerang"} for name in ADDRESSED}


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    bounds = dict(re.findall(r'^    "(\w+)>=([\d.]+)",$', PYPROJECT, re.MULTILINE))
    oldest = dict(re.findall(r"^(\w+)==([\d.]+)$", (ROOT / "constraints-oldest.txt").read_text(), re.MULTILINE))
    assert bounds.keys() == oldest.keys()
    assert [name for name, bound in bounds.items() if not f"{oldest[name]}.".startswith(f"{bound}.")] == []
