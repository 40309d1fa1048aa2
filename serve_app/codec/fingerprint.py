"""A name for a codec's weights. Two codecs with the same name give the same codes."""

from hashlib import sha256

import torch
from moshi.models.compression import MimiModel

_HEX_DIGITS = 16


def fingerprint(mimi: MimiModel) -> str:
    """Hash of all weights and of the number of codebooks in use."""
    digest = sha256(str(mimi.num_codebooks).encode())
    for name, tensor in sorted(mimi.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_HEX_DIGITS]
