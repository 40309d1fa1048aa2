"""Finds the weights in a checkpoint folder, and checks that this server can read their layout.

It reads two layouts: the Hub's (transformers-*.safetensors, named in config.json, beside a model.safetensors in
Sesame's original layout), and that of `save_pretrained` (model.safetensors, whole or in shards).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from serve_app.errors import CheckpointError

if TYPE_CHECKING:
    # The launcher finds checkpoints without torch.
    from torch import Tensor

WEIGHTS_MARKER = "csm_serve_weights"
"""Our own key in config.json. It says whether the weights are random or the demo's; without it they are trained."""

_WEIGHTS_KEY = "transformers_weights"
_HUB_INDEX = "transformers.safetensors.index.json"
_CANDIDATES = (_HUB_INDEX, "model.safetensors.index.json", "model.safetensors")
_ORIGINAL = re.compile(
    r"^((backbone|decoder)\.layers\.|(text|audio)_embeddings\.|codebook0_head\.|audio_head$|projection\.)"
)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The values of config.json. Raises CheckpointError for another model's."""
    values = read_json(folder / "config.json", name)
    if values.get("model_type") != "csm":
        raise CheckpointError(
            f"{name}: config.json has model_type {values.get('model_type')!r}, not 'csm' as in transformers' layout: "
            "use sesame/csm-1b or a checkpoint saved by transformers"
        )
    return values


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
    """The safetensors files. Raises CheckpointError where one is missing, unreadable or in another layout."""
    entry = _entry_point(folder, config, name)
    paths = _shards(entry, name) if entry.name.endswith(".json") else (entry,)
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{name}: {path.name} is missing in {folder}: download the checkpoint again")
        if any(map(_ORIGINAL.search, tensor_names(path, name))):
            raise _original_layout(name, path.name)
    return paths


def _entry_point(folder: Path, config: dict[str, Any], name: str) -> Path:
    candidates = (str(config[_WEIGHTS_KEY]),) if _WEIGHTS_KEY in config else _CANDIDATES
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    if _WEIGHTS_KEY not in config and (folder / "ckpt.pt").is_file():
        raise _original_layout(name, "ckpt.pt")
    raise CheckpointError(f"{name}: {candidates[-1]} is missing in {folder}: download the checkpoint again")


def _original_layout(name: str, file: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: {file} holds weights in Sesame's original layout, which is not served: use transformers' layout, "
        "as in the transformers-*.safetensors files of sesame/csm-1b"
    )


def _shards(index: Path, name: str) -> tuple[Path, ...]:
    weight_map = read_json(index, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{name}: {index.name} has no weight_map: download it again")
    return tuple(index.parent / file for file in sorted(set(weight_map.values())))


def tensor_names(path: Path, name: str) -> list[str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise _unreadable(path, name) from error


def read_tensors(path: Path, name: str, prefix: str, wanted: bool) -> Iterator[tuple[str, "Tensor"]]:
    """The tensors whose names start with `prefix`, or the others. Holds one in memory at a time."""
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                if key.startswith(prefix) == wanted:
                    yield key, file.get_tensor(key)
    except SafetensorError as error:
        raise _unreadable(path, name) from error


def _unreadable(path: Path, name: str) -> CheckpointError:
    return CheckpointError(f"{name}: {path.name} is truncated or corrupt: download it again")
