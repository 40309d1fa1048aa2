"""The codec goes back to the names of the Hub's layout without a change."""

import torch
from transformers import MimiModel

from serve_app.codec.mimi import moshi_tensors
from serve_app.model.weights import CODEC_PREFIX
from training.export import _codec
from training.shape import codec_config, new_codec


def test_there_and_back() -> None:
    torch.manual_seed(0)
    codec = new_codec()
    state = {name: torch.randn(tensor.shape) for name, tensor in codec.state_dict().items()}
    for name in state:
        if name.endswith("cluster_usage"):
            state[name] = torch.full_like(state[name], 2.0)
    exported = {name.removeprefix(CODEC_PREFIX): tensor for name, tensor in _codec(state)}
    assert exported.keys() == MimiModel(codec_config()).state_dict().keys()
    back = moshi_tensors(exported.items(), codec_config())
    for name, tensor in back.items():
        wanted = state[name].float()
        if name.endswith("embedding_sum"):
            wanted = wanted / 2
        if name.endswith("cluster_usage"):
            wanted = torch.ones_like(wanted)
        torch.testing.assert_close(tensor.float(), wanted, msg=name)
