"""The sizes of the demo voice: what 12 MB of bfloat16 hold, and two CPU cores train in two hours."""

from moshi.models import loaders
from moshi.models.compression import MimiModel
from transformers import CsmConfig, MimiConfig

from serve_app.codec.mimi import moshi_config
from serve_app.model.presets import preset_config

NUM_CODEBOOKS = 4
"""Two make every word understood; the others take the hoarseness away."""

_KV = {"num_attention_heads": 4, "num_key_value_heads": 2}


def csm_config() -> CsmConfig:
    return preset_config(
        "small",
        {
            **_KV,
            "num_codebooks": NUM_CODEBOOKS,
            "num_hidden_layers": 5,
            "hidden_size": 256,
            "head_dim": 64,
            "intermediate_size": 704,
            "depth_decoder_config": {
                **_KV,
                "num_hidden_layers": 2,
                "hidden_size": 128,
                "head_dim": 32,
                "intermediate_size": 320,
            },
            "codec_config": {
                "num_hidden_layers": 2,
                "hidden_size": 64,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "head_dim": 16,
                "intermediate_size": 256,
                "upsample_groups": 64,
                "num_filters": 12,
                "codebook_size": 256,
                "codebook_dim": 32,
                "vector_quantization_hidden_dimension": 32,
                "num_quantizers": NUM_CODEBOOKS,
                # 0.64 seconds: the same sound then has the same codes, whatever was said before.
                "sliding_window": 16,
                "layer_scale_initial_scale": 0.01,
            },
        },
    )


def codec_config() -> MimiConfig:
    config = csm_config().codec_config
    assert isinstance(config, MimiConfig), "CsmConfig makes it one"
    return config


def new_codec() -> MimiModel:
    """moshi's Mimi, as the server runs it; not trained yet."""
    return loaders.get_mimi(None, moshi_config(codec_config()), num_codebooks=NUM_CODEBOOKS)
