import pytest
import torch
from transformers import CsmConfig
from transformers.models.csm.modeling_csm import CsmRotaryEmbedding

from serve_app.errors import CheckpointError
from serve_app.model.presets import preset_config
from serve_app.model.rope import RotationTable, inverse_frequencies
from serve_app.model.shape import CsmShape, RopeShape, TransformerShape

DEFAULT = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}


def stacks(config: CsmConfig) -> list[tuple[TransformerShape, CsmRotaryEmbedding]]:
    shape = CsmShape.from_config(config)
    theirs = CsmRotaryEmbedding(config), CsmRotaryEmbedding(config.depth_decoder_config)
    return list(zip((shape.backbone, shape.depth), theirs, strict=True))


@pytest.mark.parametrize("overrides", [{}, DEFAULT | {"depth_decoder_config": DEFAULT}], ids=["llama3", "default"])
@pytest.mark.parametrize("preset", ["tiny", "csm-1b"])
def test_frequencies_equal_transformers(preset: str, overrides: dict) -> None:
    for shape, theirs in stacks(preset_config(preset, overrides)):
        ours = inverse_frequencies(shape.rope, shape.head_dim)
        assert torch.equal(ours, theirs.inv_freq)


def test_rotations_equal_transformers() -> None:
    for shape, theirs in stacks(preset_config("csm-1b")):
        positions = torch.arange(shape.max_positions)[None]
        cos, sin = theirs(torch.zeros(1), positions)
        ours = RotationTable(shape, torch.device("cpu"), torch.float32).at_block(0, shape.max_positions)
        signs = torch.tensor([-1.0, 1.0]).repeat_interleave(shape.head_dim // 2)
        torch.testing.assert_close(ours.cos[:, :, 0], cos, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.sin[:, :, 0] * signs, sin, rtol=0, atol=1e-6)


def test_the_hubs_rescaled_values_are_llama3s_own_for_the_backbone() -> None:
    """Factor 32, high 4, low 1, trained on 8192 positions: stored as the same ratios over 1024."""
    stored = RopeShape("llama3", 5e5, 32.0, 0.125, 0.5, 1024)
    published = RopeShape("llama3", 5e5, 32.0, 1.0, 4.0, 8192)
    torch.testing.assert_close(inverse_frequencies(stored, 64), inverse_frequencies(published, 64))


def test_the_hubs_spelling_of_the_config_is_understood() -> None:
    scaling = {"rope_type": "llama3", "factor": 32.0, "high_freq_factor": 0.5, "low_freq_factor": 0.125}
    values = preset_config("csm-1b").to_dict()
    values |= {"rope_scaling": scaling | {"original_max_position_embeddings": 1024}, "rope_theta": 500000}
    del values["rope_parameters"]
    shape = CsmShape.from_config(CsmConfig.from_dict(values))
    assert shape.backbone.rope == CsmShape.from_config(preset_config("csm-1b")).backbone.rope


def test_a_rope_that_is_not_served_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'yarn' is not served"):
        RopeShape.from_config({"rope_type": "yarn", "rope_theta": 1e4})
