"""A small Mimi with random weights that matter, made with transformers, the oracle."""

import torch
from transformers import MimiConfig, MimiModel

NUM_CODEBOOKS = 8
CODEBOOK_SIZE = 64
CPU = torch.device("cpu")


def small_config(**changes: object) -> MimiConfig:
    width = changes.get("hidden_size", 32)
    sizes = {
        "hidden_size": width,
        "upsample_groups": width,
        "num_filters": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_quantizers": NUM_CODEBOOKS,
        "codebook_size": CODEBOOK_SIZE,
        "codebook_dim": 16,
        "vector_quantization_hidden_dimension": 16,
        # At the default, 0.01, the transformers hardly act and a wrong head count goes unnoticed.
        "layer_scale_initial_scale": 1.0,
    }
    return MimiConfig(**sizes | changes)


def random_mimi(config: MimiConfig, loudness: float = 0.04, seed: int = 0) -> MimiModel:
    """At `loudness` 0.04 it is as loud as speech; at 1.0 it clips."""
    torch.manual_seed(seed)
    model = MimiModel(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor.normal_()  # zeros as made: every code would sound alike
        elif "_transformer.layers" in name and tensor.dim() == 2:
            tensor.mul_(8)  # as made, attention is close to uniform
        elif name.startswith("decoder.decoder_seanet.layers.14."):
            tensor.mul_(loudness)
    return model
