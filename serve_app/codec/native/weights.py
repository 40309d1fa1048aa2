"""What the kernels need of a Mimi, from moshi's modules: matrices in the form that they multiply by."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from moshi.models.compression import MimiModel
from moshi.modules.conv import StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.seanet import SEANetResnetBlock
from moshi.modules.transformer import LayerScale
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Product:
    """`weight` [outputs, inputs] and `bias` [outputs], float32."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer; each norm is its weight and bias."""

    attention_norm: tuple[Tensor, Tensor]
    qkv: Product
    out: Product
    mlp_norm: tuple[Tensor, Tensor]
    up: Product
    down: Product


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A transposed convolution and the residual block behind it."""

    spread: Product
    narrow: Product
    widen: Product
    stride: int


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """Everything of the decoder. C codebooks, W width of the transformer, P positions of a frame."""

    table: Tensor
    """[C, codes, W]: what a code adds to its frame, the output projections included."""
    spread: Tensor
    """[2 * P, W]: a frame's share in its own positions, then in those of the next frame."""
    frequencies: Tensor
    layers: list[LayerWeights]
    num_heads: int
    context: int
    first: Product
    blocks: list[BlockWeights]
    last: Product
    num_positions: int


def decoder_weights(mimi: MimiModel) -> DecoderWeights:
    """Of a Mimi that `mimi.load_mimi` made, on a CPU."""
    first, *blocks, last = _parts(mimi)
    assert isinstance(first, StreamingConv1d) and isinstance(last, StreamingConv1d), "SEANet begins and ends so"
    # To a type checker all that torch's modules hold is a tensor or a module.
    parts: Any = mimi
    transformer = parts.decoder_transformer.transformer
    attention = transformer.layers[0].self_attn
    upsampling = parts.upsample.convtr.convtr.convtr.weight
    return DecoderWeights(
        table=_table(parts.quantizer),
        spread=upsampling[:, 0].T.contiguous(),
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


def _table(split: Any) -> Tensor:
    parts = []
    for quantizer in (split.rvq_first, split.rvq_rest):
        projection = quantizer.output_proj.weight[:, :, 0].double()
        for layer in quantizer.vq.layers[: quantizer.n_q]:
            parts.append((layer.embedding.double() @ projection.T).float())
    return torch.stack(parts)


def _frequencies(head_dim: int, max_period: float) -> Tensor:
    """moshi's own, to the bit."""
    pairs = torch.arange(head_dim // 2, dtype=torch.float32)
    return torch.exp(pairs * (-torch.log(torch.tensor(max_period, dtype=torch.float64)).item() * 2 / head_dim))


def _layer(layer: Any) -> LayerWeights:
    attention = layer.self_attn
    assert layer.linear1 is not None and layer.linear2 is not None, "its MLP has no gate"
    return LayerWeights(
        attention_norm=(layer.norm1.weight, layer.norm1.bias),
        qkv=Product(attention.in_projs[0].weight),
        out=Product(_scaled(attention.out_projs[0].weight, layer.layer_scale_1)),
        mlp_norm=(layer.norm2.weight, layer.norm2.bias),
        up=Product(layer.linear1.weight),
        down=Product(_scaled(layer.linear2.weight, layer.layer_scale_2)),
    )


def _scaled(weight: Tensor, scale: torch.nn.Module) -> Tensor:
    return scale.scale[:, None] * weight if isinstance(scale, LayerScale) else weight


def _convolution(module: StreamingConv1d) -> Product:
    """[outputs, kernel * inputs]: one row after the other is what lies in memory."""
    convolution = module.conv.conv
    return Product(convolution.weight.permute(0, 2, 1).flatten(1).contiguous(), convolution.bias)


def _block(spread: torch.nn.Module, residual: torch.nn.Module) -> BlockWeights:
    assert isinstance(spread, StreamingConvTranspose1d) and isinstance(residual, SEANetResnetBlock), "SEANet's order"
    narrow, widen = (module for module in residual.block if isinstance(module, StreamingConv1d))
    transposed = spread.convtr.convtr
    stride = transposed.stride[0]
    assert transposed.bias is not None, "SEANet's convolutions have one"
    return BlockWeights(
        Product(_transposed(transposed.weight, stride), transposed.bias.repeat(stride)),
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
    return halves.permute(3, 1, 2, 0).reshape(stride * num_outputs, 2 * num_inputs).contiguous()
