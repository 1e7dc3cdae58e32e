"""What a command loads before it works: no library that it does not need, and not many modules in all."""

from __future__ import annotations

from importlib.metadata import version

import yaml
from hypothesis import given
from hypothesis import strategies as st

from boomerang_cli.engine.publishing import plain_yaml
from boomerang_cli.engine.publishing.versions import versions

words = st.text("aeNnoYy.-/_0 :#'~é", max_size=6) | st.sampled_from(["apache-2.0", "Off", "null", "a/b@c", "x" * 200])


@given(st.dictionaries(words, words | st.lists(words, max_size=3), max_size=3))
def test_plain_yaml_is_written_as_pyyaml_writes_it(content: dict[str, str | list[str]]) -> None:
    assert plain_yaml.dump(content) == yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


@given(words)
def test_plain_yaml_is_read_as_pyyaml_reads_it(word: str) -> None:
    lines = ["license: apache-2.0", f"license_name: {word}"]
    try:
        expected = yaml.safe_load("\n".join(lines))
    except (yaml.YAMLError, ValueError):
        expected = None
    assert plain_yaml.load(lines) == expected


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    libraries = found.keys() - {"boomerang", "python"}
    assert libraries == {"torch", "transformers", "safetensors", "huggingface_hub"}
    assert {name: found[name] for name in libraries} == {name: version(name) for name in libraries}
