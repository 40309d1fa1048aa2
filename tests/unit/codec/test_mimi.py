"""moshi's Mimi says what transformers' says, on the same weights."""

import inspect
from pathlib import Path

import pytest
import torch
from moshi.modules.rope import apply_rope
from safetensors.torch import load_file
from torch import Tensor
from transformers import MimiConfig, MimiModel

from serve_app.codec.mimi import load_mimi, moshi_tensors
from serve_app.errors import CheckpointError
from tests.support.small_mimi import CODEBOOK_SIZE, CPU, NUM_CODEBOOKS, random_mimi, small_config

OTHER_SHAPE = {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "num_filters": 3,
    "num_hidden_layers": 1,
    "num_quantizers": 5,
    "upsampling_ratios": [6, 8, 4, 5],
    "sliding_window": 20,
}


def random_codes(num_codebooks: int, num_frames: int) -> Tensor:
    return torch.randint(CODEBOOK_SIZE, (1, num_codebooks, num_frames), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("changes", [{}, OTHER_SHAPE], ids=["small", "other shape"])
def test_codes_and_sound_are_those_of_transformers(changes: dict[str, object]) -> None:
    config = small_config(**changes)
    oracle = random_mimi(config)
    mimi = load_mimi(oracle.state_dict().items(), config, config.num_quantizers, CPU)
    codes = random_codes(config.num_quantizers, 30)
    noise = 0.3 * torch.randn(1, 1, 30 * 1920, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(mimi.decode(codes), oracle.decode(codes).audio_values, atol=1e-5, rtol=0)
        encoded = mimi.encode(noise)
        assert torch.equal(encoded, oracle.encode(noise).audio_codes)
    assert encoded.unique().numel() > CODEBOOK_SIZE / 4


def test_names_on_disk_and_in_memory_give_the_same_tensors(
    oracle: MimiModel, config: MimiConfig, tmp_path: Path
) -> None:
    oracle.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    nested = oracle.state_dict()
    assert "decoder.layers.0.conv.weight" in stored
    assert "decoder.decoder_seanet.layers.0.conv.weight" in nested
    flat_state = moshi_tensors(stored.items(), config)
    nested_state = moshi_tensors(nested.items(), config)
    assert flat_state.keys() == nested_state.keys()
    assert all(torch.equal(tensor, nested_state[name]) for name, tensor in flat_state.items())


def test_a_wrong_head_count_is_heard(oracle: MimiModel) -> None:
    wrong = load_mimi(
        oracle.state_dict().items(), small_config(num_attention_heads=8, num_key_value_heads=8), NUM_CODEBOOKS, CPU
    )
    codes = random_codes(NUM_CODEBOOKS, 30)
    with torch.inference_mode():
        expected = oracle.decode(codes).audio_values
        assert (wrong.decode(codes) - expected).abs().max() > 0.1 * expected.std()


def test_weights_of_another_type_are_loaded_as_float32(oracle: MimiModel, config: MimiConfig) -> None:
    halves = ((name, tensor.to(torch.bfloat16)) for name, tensor in oracle.state_dict().items())
    mimi = load_mimi(halves, config, NUM_CODEBOOKS, CPU)
    assert {tensor.dtype for tensor in mimi.state_dict().values()} == {torch.float32}


def test_fewer_codebooks_than_stored_give_the_first_ones(oracle: MimiModel, config: MimiConfig) -> None:
    noise = torch.randn(1, 1, 1920, generator=torch.Generator().manual_seed(2))
    all_codes = load_mimi(oracle.state_dict().items(), config, NUM_CODEBOOKS, CPU).encode(noise)
    first = load_mimi(oracle.state_dict().items(), config, 3, CPU).encode(noise)
    assert torch.equal(first, all_codes[:, :3])


def test_loading_is_silent_and_leaves_the_seed_alone(
    oracle: MimiModel, config: MimiConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    load_mimi(oracle.state_dict().items(), config, NUM_CODEBOOKS, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_moshi_compiles_nothing() -> None:
    # It decides when it is imported; serve_app.codec must be imported before it, in tests too.
    assert inspect.unwrap(apply_rope) is apply_rope


Q = "decoder.decoder_transformer.layers.1.self_attn.q_proj.weight"
UPSAMPLE = "decoder.upsample.conv.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({UPSAMPLE: None}, "missing, among them upsample"),
        ({Q: None}, r"layers\.1\.self_attn\.in_projs.* needs q, k and v"),
        ({"decoder.nonsense": torch.zeros(1)}, "1 unknown tensors, among them decoder.nonsense"),
        ({UPSAMPLE: torch.zeros(32, 1, 6)}, r"\[32, 1, 6\], codec_config says \[32, 1, 4\]"),
        ({Q: torch.zeros(16, 32)}, r"needs q, k and v of \[32, 32\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    oracle: MimiModel, config: MimiConfig, changes: dict[str, Tensor | None], message: str
) -> None:
    tensors = {name: tensor for name, tensor in (oracle.state_dict() | changes).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message) as raised:
        load_mimi(tensors.items(), config, NUM_CODEBOOKS, CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_rate": 16_000}, "sampling_rate 24000"),
        ({"upsampling_ratios": [8, 6, 5, 2]}, "frames of 1920 samples"),
        ({"upsampling_ratios": [8, 10, 12]}, "four upsampling_ratios"),
        ({"num_residual_layers": 2}, "num_residual_layers 1"),
        ({"use_conv_shortcut": True}, "use_conv_shortcut"),
        ({"use_causal_conv": False}, "causal"),
        ({"pad_mode": "replicate"}, "pad_mode"),
        ({"num_filters": 1}, "num_filters"),
        ({"upsample_groups": 16}, "upsample_groups"),
        ({"num_key_value_heads": 2}, "key-value heads"),
        ({"head_dim": 16}, "heads that divide"),
        ({"hidden_size": 12}, "even head_dim"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"norm_eps": 1e-6}, "norm_eps"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}, "unscaled rope"),
        ({"codebook_dim": 8}, "codebook_dim"),
        ({"num_quantizers": 4}, "4 codebooks, the model needs 8"),
    ],
)
def test_a_config_that_moshi_cannot_express_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as raised:
        load_mimi([], small_config(**changes), NUM_CODEBOOKS, CPU)
    assert "\n" not in str(raised.value)
