"""Imports `serve_app.settings` where its libraries are missing: a bare GPU machine has torch and no pydantic.

There stand-ins take their place while that one module is imported, and no longer. They keep its names, defaults and
sections; they check no value and read no environment, which a benchmark has no use for.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Self

_LIBRARIES = ("pydantic", "pydantic_settings", "platformdirs")


def import_settings() -> None:
    """After this anyone can import `serve_app.settings`."""
    if all(name in sys.modules or find_spec(name) for name in _LIBRARIES):
        return
    with _standing_in():
        importlib.import_module("serve_app.settings")


class _Default:
    def __init__(self, default: Any = None, default_factory: Callable[[], Any] | None = None, **_limits: Any) -> None:
        self.make = default_factory or (lambda: default)


class _Model:
    """Values by keyword, defaults from the class."""

    def __init_subclass__(cls, **_options: Any) -> None:
        pass

    def __init__(self, **values: Any) -> None:
        fields = self._fields()
        if unknown := values.keys() - fields.keys():
            raise TypeError(f"{type(self).__name__} has no {min(unknown)}")
        for name, default in fields.items():
            setattr(self, name, values[name] if name in values else default.make())

    def model_copy(self, update: dict[str, Any]) -> Self:
        return type(self)(**{name: getattr(self, name) for name in self._fields()} | update)

    @classmethod
    def _fields(cls) -> dict[str, _Default]:
        names = [name for base in reversed(cls.__mro__) for name in inspect.get_annotations(base)]
        found = {name: getattr(cls, name, None) for name in names}
        return {name: value if isinstance(value, _Default) else _Default(value) for name, value in found.items()}


def _unchanged(*_arguments: Any, **_options: Any) -> Callable[[Any], Any]:
    """As a decorator with arguments."""
    return lambda function: function


def _user_data_dir(name: str, **_options: Any) -> str:
    return str(Path.home() / ".local" / "share" / name)


@contextmanager
def _standing_in() -> Iterator[None]:
    contents: dict[str, dict[str, Any]] = {
        "pydantic": {
            "BaseModel": _Model,
            "ConfigDict": dict,
            "Field": _Default,
            "SecretStr": str,
            "ValidationError": ValueError,
            "field_validator": _unchanged,
            "model_validator": _unchanged,
        },
        "pydantic_settings": {"BaseSettings": _Model, "SettingsConfigDict": dict},
        "platformdirs": {"user_data_dir": _user_data_dir, "user_cache_dir": _user_data_dir},
    }
    real = {name: sys.modules.pop(name) for name in contents if name in sys.modules}
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in contents:
            del sys.modules[name]
        sys.modules.update(real)
