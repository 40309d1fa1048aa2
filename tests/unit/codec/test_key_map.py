"""A codec's names and shapes are judged without its weights."""

from pathlib import Path

import pytest

from serve_app.codec.key_map import codec_problem
from serve_app.model.checkpoint import Checkpoint, open_checkpoint

BIAS = "decoder.layers.0.conv.bias"


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint_folder: Path) -> Checkpoint:
    return open_checkpoint(str(tiny_checkpoint_folder), None)


@pytest.fixture
def shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in checkpoint.codec_tensors()}


def test_a_checkpoints_own_names_all_have_a_place(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> None:
    assert codec_problem(checkpoint, shapes) is None


def test_a_missing_tensor_is_named(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> None:
    del shapes[BIAS]
    assert codec_problem(checkpoint, shapes) == (
        "codec weights: 1 tensors are missing, among them decoder.model.0.conv.conv.bias"
    )


def test_an_unknown_tensor_is_named(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> None:
    problem = codec_problem(checkpoint, shapes | {"decoder.reverb": (1,)})
    assert problem is not None and "decoder.reverb" in problem


def test_a_tensor_of_another_shape_is_named(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]]) -> None:
    problem = codec_problem(checkpoint, shapes | {BIAS: (3,)})
    assert problem is not None and "[3]" in problem
