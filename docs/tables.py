"""Writes the tables of the docs that come from the code: `make docs`. A test compares."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from serve_app import metrics
from serve_app.settings import CodecSettings, EngineSettings, Settings, models_in

DOCS = Path(__file__).parent
CARDS_GB = (8, 12, 16, 24)


def settings_table() -> str:
    """One row a setting: name, default, and the text under its field."""
    rows = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        sections = list(models_in(field.annotation))
        if not sections:
            rows.append(_row(name, field))
        for section in sections:
            rows.append(f"| **`{name}`** | | {_text(section.__doc__)} |")
            rows += [_row(f"{name}.{inner}", each) for inner, each in section.model_fields.items()]
    return "\n".join(rows)


def undescribed_settings() -> list[str]:
    """Names of settings without a text under their field."""
    return [name for name, field in _fields(Settings, "") if not field.description]


def metrics_table() -> str:
    """One row a metric."""
    rows = ["| Metric | Kind, unit | Labels | Meaning |", "|---|---|---|---|"]
    for metric in metrics.ALL:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind}, {metric.unit} | {labels} | {metric.description} |")
    return "\n".join(rows)


def cards_table() -> str:
    """One row a size of card: the slots that csm-1b has there."""
    import torch
    from transformers import MimiConfig

    from serve_app.codec.memory_plan import DecoderMemory
    from serve_app.codec.mimi import empty_mimi
    from serve_app.engine.memory.cards import most_slots
    from serve_app.engine.memory.plan import PlannedModel
    from serve_app.model.presets import preset_config
    from serve_app.model.shape import CsmShape

    config = preset_config("csm-1b")
    assert isinstance(config.codec_config, MimiConfig), "CsmConfig makes it one"
    shape = CsmShape.from_config(config)
    decoder = DecoderMemory.of(empty_mimi(config.codec_config, shape.num_codebooks))
    kinds = [PlannedModel(shape, torch.bfloat16, kind) for kind in ("none", "int8")]
    engines = [EngineSettings(prefix_cache_mb=mb) for mb in (EngineSettings().prefix_cache_mb, 0)]
    names = ["bfloat16", "without a prefix cache", "int8", "without a prefix cache", "`codec.max_streams`"]
    rows = [f"| Card | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for size in CARDS_GB:
        slots = [most_slots(kind, engine, size * 10**9) for kind in kinds for engine in engines]
        slots.append(decoder.most_slots(int(size * 10**9 * CodecSettings().memory_fraction)))
        rows.append(f"| {size} GB | {' | '.join(map(str, slots))} |")
    return "\n".join(rows)


BLOCKS: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (DOCS / "configure.md", settings_table),
    "metrics": (DOCS / "observe.md", metrics_table),
    "cards": (DOCS / "configure.md", cards_table),
}


def written(name: str) -> str:
    """The table as it stands in the docs."""
    page = BLOCKS[name][0].read_text()
    return page[slice(*_bounds(page, name))].strip()


def main() -> None:
    for name, (path, table) in BLOCKS.items():
        page = path.read_text()
        start, end = _bounds(page, name)
        path.write_text(f"{page[:start]}\n{table()}\n{page[end:]}")


def _bounds(page: str, name: str) -> tuple[int, int]:
    begin, end = f"<!-- {name}: begin. Written by `make docs`. -->", f"<!-- {name}: end -->"
    if begin not in page or end not in page:
        sys.exit(f"docs: the marks of the block {name} are missing")
    return page.index(begin) + len(begin), page.index(end)


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        sections = list(models_in(field.annotation))
        if not sections:
            yield prefix + name, field
        for section in sections:
            yield from _fields(section, f"{prefix}{name}.")


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_default(field.default)} | {_text(field.description)} |"


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is None or value in ({}, []):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _text(description: str | None) -> str:
    return " ".join((description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
