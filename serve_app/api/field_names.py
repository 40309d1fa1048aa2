"""Renders the fields that core errors point at in a dialect's names.

The core writes neutral paths, such as `context[2].audio`. A dialect maps their parts to its own names.
"""

import re
from collections.abc import Mapping

Place = tuple[str | int, ...]

_PART = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")
_PATH = re.compile(r"[a-z_]+(\[\d+\])?(\.[a-z_]+)?", re.ASCII)


class FieldNames:
    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: from a neutral path, with `[]` for any index, to the dialect's name of its last part."""
        self._names = names

    def place(self, path: str) -> Place:
        """The parts of `path` in the dialect's names. A name that is no neutral path, such as a header's, is kept."""
        if not _PATH.fullmatch(path):
            return (path,)
        parts: list[str | int] = []
        pattern = ""
        for index, name in _PART.findall(path):
            if index:
                pattern += "[]"
                parts.append(int(index))
            else:
                pattern += f".{name}" if pattern else name
                parts.append(self._names.get(pattern, name))
        return tuple(parts)

    def dotted(self, path: str) -> str:
        return ".".join(map(str, self.place(path)))
