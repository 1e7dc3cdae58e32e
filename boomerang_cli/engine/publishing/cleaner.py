"""Files of other tools without what is private in them: paths of this disk, tokens.

Only a value that is a path as a whole is taken for one, and within a text only what this machine itself is known by: a
``/`` is a token, a pattern or a template far more often than a path.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from boomerang_cli.engine.publishing.privacy import SECRET, homes, is_there, last_part, plain

_PATH = re.compile(
    r"file:/.+|~[\w.-]*/[^\n]*|/[\w.@+=,-][\w.@+=,~ -]*/[\w.@+=,~ /-]*|[A-Za-z]:[\\/][\w\\.][^\n]*|\\\\[\w.-]+\\[^\n]+"
    r"|\.\.?/[^\n]*"
)
"""A value that is a path as a whole: ``/think`` and ``/`` are none."""

_NAME_KEYS = {"_name_or_path", "name_or_path", "base_model_name_or_path", "tokenizer_name_or_path"}
"""Whose values are a Hub id or a path; nobody reads them to load a model."""
_PRIVATE_KEYS = {
    "hostname", "host_name", "username", "user_name", "output_dir", "logging_dir", "log_dir", "cache_dir", "run_name",
    "use_auth_token", "auth_token", "hf_token", "hub_token", "api_key",
}  # fmt: skip
_CONTENT_KEYS = {"chat_template", "template", "content", "pattern", "Regex", "String", "id2label", "auto_map"}
"""Whose values are read by a model or its tokenizer: only what this machine is known by is taken out of them."""
_VOCABULARY_KEYS = {"vocab", "merges", "added_tokens", "weight_map"}
"""Whose values are left alone: a token may look like anything, and there are hundreds of thousands."""


@dataclass
class Cleaner:
    """Takes what is private out of one model folder's files, and remembers where it stood.

    Attributes:
        folder: the model's.
        removed: ``config.json: _name_or_path``, in the order of the work.
    """

    folder: Path
    removed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        near = {Path.cwd(), self.folder.absolute(), self.folder.absolute().parent}
        near |= {path.resolve() for path in near}
        # A folder right below the root, /data, says nothing of anybody, and is part of other texts.
        self._folders = homes() | {str(path) for path in near if len(path.parts) > 2}
        names = "|".join(map(re.escape, sorted(self._folders, key=len, reverse=True)))
        inner = r"(?![\w.-])(?:[\\/][\w.@+=,~\\/-]*)?"
        self._known = re.compile(rf"(?<![\w/.-])(?:file://)?(?:{names}){inner}" if names else r"(?!)")

    def json(self, file: str, content: Any) -> Any:
        """Return the content of a JSON file without what is private; the very same if nothing is."""
        return self._value(content, file, ())

    def note_differences(self, file: str, before: Any, after: Any) -> None:
        """Remember what a document of ours loses on its way out."""
        for at in _differences(before, after):
            self._note(file, at)

    def text(self, file: str, text: str, *, at: str = "") -> str:
        """Return a text without this machine's folders and without tokens."""
        cleaned = SECRET.sub("…", self._known.sub(self._shortened, text))
        if cleaned != text:
            self._note(file, at)
        return cleaned

    def card(self, file: str, text: str) -> str:
        """Return somebody's model card likewise; a path as a whole value of its metadata is shortened too."""
        front, mark, rest = text.partition("\n---") if text.lstrip().startswith("---") else ("", "", text)
        value = re.compile(rf"^(\s*(?:- |[\w-]+: +)['\"]?)((?:{_PATH.pattern}))(?=['\"]?\s*$)", re.MULTILINE)
        shown = value.sub(lambda match: match[1] + last_part(match[2]), front)
        if shown != front:
            self._note(file, "metadata")
        return self.text(file, shown + mark + rest)

    def names_this_machine(self, data: bytes) -> bool:
        """Tell whether bytes that cannot be written anew hold a path in one of this machine's folders, or a token."""
        folders = b"|".join(re.escape(os.fsencode(folder)) for folder in self._folders) or rb"(?!)"
        in_folder = re.search(rb"(?:" + folders + rb")/[\w.-]{2}", data)
        return in_folder is not None or re.search(rb"\bhf_[A-Za-z0-9]{30,}", data) is not None

    def _value(self, value: Any, file: str, at: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return self._mapping(value, file, at)
        if isinstance(value, list):
            cleaned = [self._value(each, file, at) for each in value]
            return value if all(one is other for one, other in zip(value, cleaned, strict=True)) else cleaned
        if not isinstance(value, str) or not value:
            return value
        if not any(map(_is_content, at)):
            inner = _inner_json(value)
            if inner is not None and (shown := self._value(inner, file, at)) is not inner:
                return json.dumps(shown)
            if self._is_local(value):
                self._note(file, ".".join(at))
                return last_part(value)
        shown = self.text(file, value, at=".".join(at))
        return value if shown == value else shown

    def _mapping(self, content: dict[str, Any], file: str, at: tuple[str, ...]) -> dict[str, Any]:
        kept = {}
        for key, value in content.items():
            if key in _VOCABULARY_KEYS:
                kept[key] = value
            elif isinstance(value, str) and self._is_private(key, value):
                self._note(file, ".".join((*at, key)))
            else:
                kept[key] = self._value(value, file, (*at, key))
        same = kept.keys() == content.keys() and all(kept[key] is content[key] for key in content)
        return content if same else kept

    def _is_private(self, key: str, value: str) -> bool:
        """Tell whether a key is left out with its value; a file's name alone is kept, it may be in the folder."""
        if key in _PRIVATE_KEYS or SECRET.fullmatch(value):
            return True
        if key in _NAME_KEYS:
            near = (Path(value), self.folder / value, self.folder.absolute().parent / value)
            return bool(value) and (self._is_local(value) or value.count("/") > 1 or any(map(is_there, near)))
        is_file = bool(PurePath(plain(value)).suffix)
        return not _is_content(key) and self._is_local(value) and not is_file

    def _is_local(self, value: str) -> bool:
        return _PATH.fullmatch(value) is not None or plain(value) in self._folders

    def _shortened(self, match: re.Match[str]) -> str:
        path = plain(match[0])
        return "…" if path in self._folders else last_part(path)

    def _note(self, file: str, at: str) -> None:
        said = f"{file}: {at}" if at else file
        if said not in self.removed:
            self.removed.append(said)


def _is_content(key: str) -> bool:
    return key in _CONTENT_KEYS or key.endswith(("tokens", "_token"))


def _inner_json(text: str) -> Any:
    """Return the JSON object or list that a text is, as tools keep their settings in a file's metadata."""
    if text[:1] not in "{[":
        return None
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


_GONE = object()


def _differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key, value in before.items():
            yield from _differences(value, after.get(key, _GONE), f"{at}.{key}" if at else str(key))
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        for one, other in zip(before, after, strict=True):
            yield from _differences(one, other, at)
    elif before != after:
        yield at
