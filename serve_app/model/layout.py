"""Finds the weights in a checkpoint folder.

Four layouts are read: the Hub's (transformers-*.safetensors, named in config.json, beside a model.safetensors in
Sesame's original layout), that of `save_pretrained` (model.safetensors or pytorch_model.bin, whole or in shards),
Sesame's original one (ckpt.pt or model.safetensors), and PEFT's adapters (`adapters/files.py`).
"""

import json
from pathlib import Path
from typing import Any

from serve_app.errors import CheckpointError

_WEIGHTS_KEY = "transformers_weights"
_HUB_INDEX = "transformers.safetensors.index.json"
_CANDIDATES = (
    _HUB_INDEX,
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
DEMO = "demo"
_DEMO_FOLDER = Path(__file__).parents[1] / "demo_voice"
"""Part of the package, made by `training/`."""
ORIGINAL_FILES = ("model.safetensors", "ckpt.pt")


def local_folder(model: str) -> Path | None:
    """The folder that `model` names, None where it names none on this machine."""
    if model == DEMO:
        return _DEMO_FOLDER
    folder = Path(model).expanduser()
    return folder if model and folder.is_dir() else None


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The values of config.json. Raises CheckpointError for another model's."""
    values = read_json(folder / "config.json", name)
    if values.get("model_type") != "csm":
        raise CheckpointError(
            f"{name}: config.json has model_type {values.get('model_type')!r}, not 'csm' as in transformers' layout: "
            "use sesame/csm-1b or a checkpoint saved by transformers"
        )
    return values


def is_configured(folder: Path) -> bool:
    """Whether there is a config.json of transformers. Sesame's own library writes another or none."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return not isinstance(values, dict) or "model_type" in values


def is_plain_folder(folder: Path) -> bool:
    """Whether its own files are all that there is to a checkpoint."""
    return is_configured(folder) and not (folder / "adapter_config.json").exists()


def read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{name}: {path.name} is missing in {path.parent}: download the checkpoint again")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{name}: {path.name} is not valid JSON: download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{name}: {path.name} holds no JSON object: download it again")
    return values


def names_transformers_weights(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the weights are in transformers-*.safetensors, and model.safetensors must be ignored."""
    return _WEIGHTS_KEY in config or (folder / _HUB_INDEX).is_file()


def find_weights(folder: Path, config: dict[str, Any], name: str) -> tuple[Path, ...]:
    """The files of a folder with transformers' config.json. Raises CheckpointError where one is missing."""
    entry = _entry_point(folder, config, name)
    paths = _shards(entry, name) if entry.name.endswith(".json") else (entry,)
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{name}: {path.name} is missing in {folder}: download the checkpoint again")
    return paths


def find_original(folder: Path) -> Path | None:
    """The file that holds Sesame's layout, where it is one."""
    return next((folder / file for file in ORIGINAL_FILES if (folder / file).is_file()), None)


def _entry_point(folder: Path, config: dict[str, Any], name: str) -> Path:
    candidates = (str(config[_WEIGHTS_KEY]),) if _WEIGHTS_KEY in config else (*_CANDIDATES, "ckpt.pt")
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    wanted = str(config.get(_WEIGHTS_KEY, "model.safetensors"))
    raise CheckpointError(f"{name}: {wanted} is missing in {folder}: download the checkpoint again")


def _shards(index: Path, name: str) -> tuple[Path, ...]:
    weight_map = read_json(index, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{name}: {index.name} has no weight_map: download it again")
    return tuple(index.parent / file for file in sorted(set(weight_map.values())))
