"""Compares a checkpoint's tensors with those that its config.json requires. Reads only the files' headers."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from serve_app.model.checkpoint import Checkpoint
from serve_app.model.random_weights import stored_name
from serve_app.model.stored import DTYPES
from serve_app.model.weights import AUDIO_TABLES, CODEC_PREFIX, destinations

_PARTS = (
    ("embeddings", ("embed_text_tokens.", "backbone_model.embed_tokens.", "depth_decoder.model.embed_tokens.")),
    ("backbone", ("backbone_model.",)),
    ("depth decoder", ("depth_decoder.model.",)),
    ("heads", ("lm_head.", "depth_decoder.codebooks_head.")),
    ("codec", (CODEC_PREFIX,)),
)
"""A tensor belongs to the first part with a matching prefix."""
_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A stored tensor without its values. `dtype` is safetensors' name of it, such as F32 or BF16."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def num_parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The tensors found, and the problems of each kind. A checkpoint without problems can be served."""

    file_bytes: dict[str, int]
    found: dict[str, TensorHeader]
    num_expected: int
    """Tensors of transformers' own model of this config.json. One of the tied audio table's two names is enough."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    unread: tuple[str, ...]
    """Tensors that transformers reads and this server does not."""

    @property
    def problems(self) -> tuple[str, ...]:
        return (
            *(f"{name} is missing" for name in self.missing),
            *(f"{name} is not a tensor of this model" for name in self.unexpected),
            *self.misshapen,
            *(f"{name} is read by transformers and not by this server" for name in self.unread),
        )

    @property
    def parameters(self) -> dict[str, int]:
        """Parameters by part. The tied audio table counts once, and the codec's codebooks count too."""
        counts = Counter({part: 0 for part, _ in _PARTS})
        for name, header in self.found.items():
            if not (name == AUDIO_TABLES[1] and AUDIO_TABLES[0] in self.found):
                counts[_part(name)] += header.num_parameters
        return dict(counts)

    @property
    def dtypes(self) -> dict[str, int]:
        """Tensors by stored type."""
        return dict(Counter(header.dtype for header in self.found.values()))

    @property
    def codec(self) -> dict[str, tuple[int, ...]]:
        """The codec's shapes, by the names that `Checkpoint.codec_tensors` gives."""
        return {
            name.removeprefix(CODEC_PREFIX): header.shape
            for name, header in self.found.items()
            if name.startswith(CODEC_PREFIX)
        }


def take_inventory(checkpoint: Checkpoint) -> Inventory:
    """Compare names and shapes, without reading values."""
    found: dict[str, TensorHeader] = {}
    twice: list[str] = []
    for tensor in checkpoint.stored():
        if tensor.name in found:
            twice.append(f"{tensor.name} (stored twice)")
        found[tensor.name] = TensorHeader(tensor.shape, _TYPE_NAMES[tensor.dtype])
    expected = _expected(checkpoint)
    if any(name in found for name in AUDIO_TABLES):
        expected = {name: shape for name, shape in expected.items() if name in found or name not in AUDIO_TABLES}
    served = destinations(checkpoint.shape)
    return Inventory(
        file_bytes={path.name: path.stat().st_size for path in checkpoint.weight_files},
        found=found,
        num_expected=len(expected),
        missing=tuple(sorted(expected.keys() - found.keys())),
        unexpected=tuple(sorted(found.keys() - expected.keys()) + twice),
        misshapen=tuple(_misshapen(found, expected)),
        unread=tuple(sorted(n for n in expected if n not in served and not n.startswith(CODEC_PREFIX))),
    )


def snapshot_commit(folder: Path) -> str | None:
    """The commit of the Hub's repository, if `folder` is a snapshot in the Hub's cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def _expected(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Taken from transformers' model, because our own plan of names is what this checks."""
    from transformers import CsmForConditionalGeneration

    with torch.device("meta"):
        model = CsmForConditionalGeneration(checkpoint.config)
    return {stored_name(name): tuple(value.shape) for name, value in model.state_dict().items()}


def _misshapen(found: Mapping[str, TensorHeader], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for name, shape in expected.items():
        if name in found and found[name].shape != shape:
            yield f"{name} is {list(found[name].shape)}, config.json says {list(shape)}"


def _part(name: str) -> str:
    return next((part for part, beginnings in _PARTS if name.startswith(beginnings)), "other")
