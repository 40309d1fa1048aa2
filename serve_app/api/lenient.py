"""Reads bodies of loosely typed clients: empty fields count as left out, unknown ones are named in a notice."""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

_MAX_NAMED = 5
_MAX_NAME_CHARS = 40
_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)


class Lenient(BaseModel):
    """Ignores unknown fields. null counts as left out, and so does "" in an optional field."""

    model_config = ConfigDict(extra="ignore")

    keeps_empty: ClassVar[frozenset[str]] = frozenset()
    """Optional fields in which "" differs from a field that is left out."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if not cls._is_left_out(name, value)}

    @classmethod
    def _is_left_out(cls, name: str, value: Any) -> bool:
        if value != "" or name in cls.keeps_empty:
            return value is None
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required()


class LenientBody(Lenient):
    """A whole body, with notices about the fields that were ignored."""

    _notices: tuple[str, ...] = PrivateAttr(default=())

    @property
    def notices(self) -> tuple[str, ...]:
        return self._notices

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Raises pydantic's ValidationError."""
        body = cls.model_validate(values)
        body._notices = _unknown_notices(values, cls)
        return body


def always_in_schema(*names: str) -> Callable[[dict[str, Any]], None]:
    """For `json_schema_extra`: marks fields as required that have a default only for a better error."""

    def add(schema: dict[str, Any]) -> None:
        for name in names:
            schema["properties"][name].pop("default", None)
        schema["required"] = sorted({*schema.get("required", ()), *names})

    return add


def _unknown_notices(values: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, ...]:
    unknown = _unknown(values, model, "")
    named = list(islice(unknown, _MAX_NAMED))
    num_more = sum(1 for _ in unknown)
    notices = [_notice(path, name, list(known)) for path, name, known in named]
    return (*notices, f"{num_more} more unknown fields were ignored") if num_more else tuple(notices)


def _unknown(values: Mapping[Any, Any], model: type[BaseModel], path: str) -> Iterator[tuple[str, str, Any]]:
    """Path and name of each unknown field, and the names that are known there."""
    known = model.model_fields
    for name, value in values.items():
        if name not in known:
            yield path, str(name), known
        elif isinstance(value, list) and (item_model := _item_model(known[name].annotation)):
            for number, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _unknown(item, item_model, f"{path}{name}.{number}.")


def _item_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a list's items, where `annotation` is such a list or may be None."""
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is list:
            item = get_args(candidate)[0]
            return item if isinstance(item, type) and issubclass(item, BaseModel) else None
    return None


def _notice(path: str, name: str, known: list[str]) -> str:
    """A notice that quotes only the field's name, shortened and in characters that a header can carry."""
    shown = _UNSAFE.sub("?", name[:_MAX_NAME_CHARS])
    nearest = get_close_matches(name[:_MAX_NAME_CHARS].lower(), known, 1)
    hint = f", did you mean {nearest[0]}?" if nearest else ""
    return f"unknown field {path}{shown} was ignored{hint}"
