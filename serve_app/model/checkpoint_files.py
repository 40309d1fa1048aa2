"""Finds a checkpoint: the demo, a folder, or a repository of the Hub. Needs neither torch nor transformers."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.errors import CheckpointError
from serve_app.messages import TRAINED
from serve_app.model.layout import WEIGHTS_MARKER, find_weights, read_config

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).parents[1] / "demo_voice"
"""Part of the package, made by `training/`."""

_REPOSITORY = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*$")


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """A checkpoint whose files are there. What they hold is not checked yet."""

    folder: Path
    values: dict[str, Any]
    """Those of config.json."""
    weight_files: tuple[Path, ...]

    @property
    def weights(self) -> str:
        """`trained`, `demo voice`, or `random`: made by `create`, it sounds like noise."""
        return str(self.values.get(WEIGHTS_MARKER, TRAINED))


def find_checkpoint(model: str, revision: str | None) -> CheckpointFiles:
    """Find or download `model`. Raises CheckpointError where a file is missing or unreadable, with the remedy."""
    folder = _resolve(model, revision)
    values = read_config(folder, model)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{model}: tokenizer.json is missing in {folder}: download the checkpoint again")
    return CheckpointFiles(folder, values, find_weights(folder, values, model))


def is_on_the_hub(model: str) -> bool:
    """Whether `model` names a repository, and neither the demo nor a folder."""
    return not _is_folder(model) and _REPOSITORY.match(model) is not None


def _resolve(model: str, revision: str | None) -> Path:
    if model == DEMO:
        return _DEMO_FOLDER
    if _is_folder(model):
        return Path(model).expanduser()
    if is_on_the_hub(model):
        # The Hub's client takes a second to import, which the demo and folders need not wait for.
        from serve_app.model import hub

        return hub.download(model, revision)
    raise CheckpointError(f"{model}: no such folder; give 'demo', a folder, or a Hub repository like sesame/csm-1b")


def _is_folder(model: str) -> bool:
    return bool(model) and Path(model).expanduser().is_dir()
