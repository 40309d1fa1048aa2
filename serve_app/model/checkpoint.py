"""Opens a checkpoint: the demo, a folder, or a repository of the Hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CsmConfig

from serve_app.errors import CheckpointError
from serve_app.messages import RANDOM, TRAINED, TrainedFor
from serve_app.model import hub
from serve_app.model.create import WEIGHTS_MARKER
from serve_app.model.csm import Csm
from serve_app.model.layout import find_weights, read_config, read_tensors
from serve_app.model.matrix import QuantizationChoice
from serve_app.model.shape import CsmShape
from serve_app.model.trained_for import read_trained_for
from serve_app.model.weights import CODEC_PREFIX, build_model

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).parents[1] / "demo_voice"
"""Part of the package, made by `training/`."""

_REPOSITORY = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are complete. Its tensors are read when they are needed."""

    name: str
    """As the user named it."""
    folder: Path
    config: CsmConfig
    shape: CsmShape
    weight_files: tuple[Path, ...]
    weights: str
    """`trained`, `demo voice`, or `random`: made by `create`, it sounds like noise."""

    trained_for: TrainedFor

    @property
    def random_weights(self) -> bool:
        return self.weights == RANDOM

    def model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors but the codec's, by stored name."""
        for path in self.weight_files:
            yield from read_tensors(path, self.name, CODEC_PREFIX, wanted=False)

    def codec_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The codec's tensors, as transformers' MimiModel names them."""
        for path in self.weight_files:
            for name, tensor in read_tensors(path, self.name, CODEC_PREFIX, wanted=True):
                yield name.removeprefix(CODEC_PREFIX), tensor


def open_checkpoint(model: str, revision: str | None) -> Checkpoint:
    """Find or download `model`. Raises CheckpointError where it cannot be served, with the remedy."""
    folder = _resolve(model, revision)
    values = read_config(folder, model)
    config = _parse(values, model)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{model}: tokenizer.json is missing in {folder}: download the checkpoint again")
    return Checkpoint(
        name=model,
        folder=folder,
        config=config,
        shape=_named(model, config),
        weight_files=find_weights(folder, values, model),
        weights=str(values.get(WEIGHTS_MARKER, TRAINED)),
        trained_for=_trained_for(values, model),
    )


def require_checkpoint(model: str, revision: str | None) -> None:
    """Raises CheckpointError where `open_checkpoint` would find files missing or unreadable. Downloads no weights."""
    if model == DEMO:
        return
    if not Path(model).expanduser().is_dir() and _REPOSITORY.match(model):
        hub.reach(model, revision)
    else:
        open_checkpoint(model, revision)


def load_model(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, quantization: QuantizationChoice = "none"
) -> Csm:
    """Raises CheckpointError where a tensor is unknown, missing or of another shape."""
    try:
        return build_model(checkpoint.shape, checkpoint.model_tensors(), device, dtype, quantization)
    except CheckpointError as error:
        raise _prefixed(checkpoint.name, error) from error


def _resolve(model: str, revision: str | None) -> Path:
    if model == DEMO:
        return _DEMO_FOLDER
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return folder
    if _REPOSITORY.match(model):
        return hub.download(model, revision)
    raise CheckpointError(f"{model}: no such folder; give 'demo', a folder, or a Hub repository like sesame/csm-1b")


def _parse(values: dict[str, Any], name: str) -> CsmConfig:
    # Otherwise it warns of every special id of the real model, which it takes for ids of codes.
    transformers.logging.set_verbosity_error()
    try:
        return CsmConfig.from_dict(values)
    except (StrictDataclassError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: config.json cannot be read ({error}): download it again") from error


def _named(name: str, config: CsmConfig) -> CsmShape:
    try:
        return CsmShape.from_config(config)
    except CheckpointError as error:
        raise _prefixed(name, error) from error


def _trained_for(values: dict[str, Any], name: str) -> TrainedFor:
    try:
        return read_trained_for(values)
    except CheckpointError as error:
        raise _prefixed(name, error) from error


def _prefixed(name: str, error: CheckpointError) -> CheckpointError:
    return CheckpointError(f"{name}: {error}")
