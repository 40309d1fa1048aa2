"""The weights of the native decoder, from the modules of moshi's Mimi."""

from collections.abc import Iterator
from typing import Any

import torch
from moshi.models.compression import MimiModel
from moshi.modules.conv import StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.seanet import SEANetResnetBlock
from moshi.modules.transformer import LayerScale
from torch import Tensor

from serve_app.codec.native.weights import Array, BlockWeights, DecoderWeights, LayerWeights, Norm, Product


def inexpressible(mimi: MimiModel) -> str | None:
    """None where the kernels can decode as `mimi` does; else why not, in one line."""
    device = next(mimi.parameters()).device
    if device.type != "cpu":
        return f"it runs on a CPU, the codec is on {device.type}"
    if any(m.conv.conv.dilation[0] != 1 for m in mimi.decoder.modules() if isinstance(m, StreamingConv1d)):
        return "it has no dilated convolutions"
    parts: Any = mimi  # to a type checker all that a module holds is a tensor or a module
    layers = parts.decoder_transformer.transformer.layers
    if not layers:
        return "it needs a transformer of one layer or more"
    if mimi.encoder_frame_rate == mimi.frame_rate:
        return "it needs more than one position a frame"
    if layers[0].self_attn.context < mimi.encoder_frame_rate / mimi.frame_rate:
        return "it needs a sliding_window of a frame's positions or more"
    return None


@torch.inference_mode()
def decoder_weights(mimi: MimiModel) -> DecoderWeights:
    """Of a Mimi that `mimi.load_mimi` made and that is not `inexpressible`. They may share its memory."""
    first, *blocks, last = _parts(mimi)
    assert isinstance(first, StreamingConv1d) and isinstance(last, StreamingConv1d), "SEANet begins and ends so"
    # To a type checker all that torch's modules hold is a tensor or a module.
    parts: Any = mimi
    transformer = parts.decoder_transformer.transformer
    attention = transformer.layers[0].self_attn
    upsampling = parts.upsample.convtr.convtr.convtr.weight
    return DecoderWeights(
        table=_table(parts.quantizer),
        spread=_array(upsampling[:, 0].T),
        frequencies=_frequencies(attention.embed_dim // attention.num_heads, transformer.max_period),
        layers=[_layer(layer) for layer in transformer.layers],
        num_heads=attention.num_heads,
        context=attention.context,
        first=_convolution(first),
        blocks=[_block(*pair) for pair in zip(blocks[::2], blocks[1::2], strict=True)],
        last=_convolution(last),
        num_positions=upsampling.shape[2] // 2,
    )


def _parts(mimi: MimiModel) -> Iterator[torch.nn.Module]:
    """The decoder's convolutions and residual blocks in their order, without what lies between: all of it is ELU."""
    model: Any = mimi.decoder.model
    for module in model:
        if not isinstance(module, torch.nn.ELU):
            yield module


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


def _product(weight: Tensor, bias: Tensor | None = None) -> Product:
    return Product(_array(weight), None if bias is None else _array(bias))


def _norm(module: Any) -> Norm:
    return Norm(_array(module.weight), _array(module.bias))


def _table(split: Any) -> Array:
    parts = []
    for quantizer in (split.rvq_first, split.rvq_rest):
        projection = quantizer.output_proj.weight[:, :, 0].double()
        for layer in quantizer.vq.layers[: quantizer.n_q]:
            parts.append((layer.embedding.double() @ projection.T).float())
    return _array(torch.stack(parts))


def _frequencies(head_dim: int, max_period: float) -> Array:
    """moshi's own, to the bit."""
    pairs = torch.arange(head_dim // 2, dtype=torch.float32)
    return _array(torch.exp(pairs * (-torch.log(torch.tensor(max_period, dtype=torch.float64)).item() * 2 / head_dim)))


def _layer(layer: Any) -> LayerWeights:
    attention = layer.self_attn
    assert layer.linear1 is not None and layer.linear2 is not None, "its MLP has no gate"
    return LayerWeights(
        attention_norm=_norm(layer.norm1),
        qkv=_product(attention.in_projs[0].weight),
        out=_product(_scaled(attention.out_projs[0].weight, layer.layer_scale_1)),
        mlp_norm=_norm(layer.norm2),
        up=_product(layer.linear1.weight),
        down=_product(_scaled(layer.linear2.weight, layer.layer_scale_2)),
    )


def _scaled(weight: Tensor, scale: torch.nn.Module) -> Tensor:
    return scale.scale[:, None] * weight if isinstance(scale, LayerScale) else weight


def _convolution(module: StreamingConv1d) -> Product:
    """[outputs, kernel * inputs]: one row after the other is what lies in memory."""
    convolution = module.conv.conv
    return _product(convolution.weight.permute(0, 2, 1).flatten(1), convolution.bias)


def _block(spread: torch.nn.Module, residual: torch.nn.Module) -> BlockWeights:
    assert isinstance(spread, StreamingConvTranspose1d) and isinstance(residual, SEANetResnetBlock), "SEANet's order"
    narrow, widen = (module for module in residual.block if isinstance(module, StreamingConv1d))
    transposed = spread.convtr.convtr
    stride = transposed.stride[0]
    assert transposed.bias is not None, "SEANet's convolutions have one"
    return BlockWeights(
        _product(_transposed(transposed.weight, stride), transposed.bias.repeat(stride)),
        _convolution(narrow),
        _convolution(widen),
        stride,
    )


def _transposed(weight: Tensor, stride: int) -> Tensor:
    """[inputs, outputs, 2 * stride] to [stride * outputs, 2 * inputs]: `stride` rows of outputs, of the input before
    and the input itself. An input reaches its own rows with the first half of the kernel, the next rows with the rest.
    """
    num_inputs, num_outputs, _ = weight.shape
    halves = weight.reshape(num_inputs, num_outputs, 2, stride).flip(2)
    return halves.permute(3, 1, 2, 0).reshape(stride * num_outputs, 2 * num_inputs)
