from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from transformers import CsmForConditionalGeneration

from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.csm import Csm
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape
from serve_app.model.weights import AUDIO_TABLES, build_model, destinations, load_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def full_size() -> tuple[CsmShape, dict[str, Tensor]]:
    """CSM-1B's shape and its tensors, without their storage."""
    config = preset_config("csm-1b")
    with torch.device("meta"):
        tensors = CsmForConditionalGeneration(config).state_dict()
    return CsmShape.from_config(config), tensors


def meta_model(shape: CsmShape) -> Csm:
    return Csm(shape, torch.device("meta"), torch.float32)


def weights(model: Csm) -> list[Tensor]:
    stacks = (model.backbone, model.depth)
    blocks = [getattr(block, f.name) for stack in stacks for block in stack.blocks for f in fields(block)]
    own = [model.text_embedding, model.audio_embedding, model.first_head, model.projection, model.depth_heads]
    return own + blocks + [stack.norm for stack in stacks]


def test_every_tensor_of_csm_1b_has_one_destination_of_its_shape(
    full_size: tuple[CsmShape, dict[str, Tensor]],
) -> None:
    shape, tensors = full_size
    model = meta_model(shape)
    ours = {name: tensor.shape for name, tensor in tensors.items() if not name.startswith("codec_model.")}
    assert ours == {name: place(model).shape for name, place in destinations(shape).items()}
    load_weights(model, iter(tensors.items()))


def test_the_destinations_cover_every_parameter_once(full_size: tuple[CsmShape, dict[str, Tensor]]) -> None:
    shape, _ = full_size
    model = meta_model(shape)
    filled = sum(place(model).numel() for name, place in destinations(shape).items() if name != AUDIO_TABLES[1])
    assert filled == sum(weight.numel() for weight in weights(model))


def test_no_number_of_a_loaded_model_is_left_unset(tiny_checkpoint: Checkpoint) -> None:
    model = Csm(tiny_checkpoint.shape, CPU, torch.float32)
    for weight in weights(model):
        weight.fill_(torch.nan)
    load_weights(model, tiny_checkpoint.model_tensors())
    assert not any(weight.isnan().any() for weight in weights(model))


@pytest.mark.parametrize("dropped", AUDIO_TABLES)
def test_either_name_of_the_tied_table_is_enough(tiny_checkpoint: Checkpoint, dropped: str) -> None:
    tensors = ((name, tensor) for name, tensor in tiny_checkpoint.model_tensors() if name != dropped)
    model = build_model(tiny_checkpoint.shape, tensors, CPU, torch.float32)
    assert model.audio_embedding.shape == (32 * 67, 64)


def test_a_missing_tensor_is_named(tiny_checkpoint: Checkpoint) -> None:
    tensors = ((name, t) for name, t in tiny_checkpoint.model_tensors() if name != "lm_head.weight")
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, among them lm_head\.weight"):
        build_model(tiny_checkpoint.shape, tensors, CPU, torch.float32)


def test_a_checkpoint_without_any_audio_table_is_refused(tiny_checkpoint: Checkpoint) -> None:
    tensors = ((name, t) for name, t in tiny_checkpoint.model_tensors() if name not in AUDIO_TABLES)
    with pytest.raises(CheckpointError, match="2 tensors are missing"):
        build_model(tiny_checkpoint.shape, tensors, CPU, torch.float32)


def test_an_unknown_tensor_is_named(tiny_checkpoint: Checkpoint) -> None:
    def tensors() -> Iterator[tuple[str, Tensor]]:
        yield "backbone_model.layers.2.input_layernorm.weight", torch.ones(64)
        yield from tiny_checkpoint.model_tensors()

    with pytest.raises(CheckpointError, match=r"layers\.2\.input_layernorm\.weight is not a tensor of this model"):
        build_model(tiny_checkpoint.shape, tensors(), CPU, torch.float32)


def test_a_tensor_that_comes_twice_is_refused(tiny_checkpoint: Checkpoint) -> None:
    tensors = [*tiny_checkpoint.model_tensors(), *tiny_checkpoint.model_tensors()]
    with pytest.raises(CheckpointError, match="is not a tensor of this model"):
        build_model(tiny_checkpoint.shape, tensors, CPU, torch.float32)


def test_a_tensor_of_another_shape_is_named_with_both(tiny_checkpoint: Checkpoint) -> None:
    tensors = ((n, t[:-1] if n == "lm_head.weight" else t) for n, t in tiny_checkpoint.model_tensors())
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is \[66, 64\], config\.json says \[67, 64\]"):
        build_model(tiny_checkpoint.shape, tensors, CPU, torch.float32)
