"""Opens a checkpoint: the demo, a folder, or a repository of the Hub."""

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
from serve_app.messages import RANDOM, TrainedFor
from serve_app.model import hub
from serve_app.model.checkpoint_files import DEMO, find_checkpoint, is_on_the_hub
from serve_app.model.csm import Csm
from serve_app.model.layout import read_tensors
from serve_app.model.matrix import QuantizationChoice
from serve_app.model.shape import CsmShape
from serve_app.model.trained_for import read_trained_for
from serve_app.model.weights import CODEC_PREFIX, build_model


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
    files = find_checkpoint(model, revision)
    config = _parse(files.values, model)
    return Checkpoint(
        name=model,
        folder=files.folder,
        config=config,
        shape=_named(model, config),
        weight_files=files.weight_files,
        weights=files.weights,
        trained_for=_trained_for(files.values, model),
    )


def require_checkpoint(model: str, revision: str | None) -> None:
    """Raises CheckpointError where `open_checkpoint` would find files missing or unreadable. Downloads no weights."""
    if model == DEMO:
        return
    if is_on_the_hub(model):
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
