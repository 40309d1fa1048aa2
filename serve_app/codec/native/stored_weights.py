"""The native decoder's weights as named arrays and numbers, in which form they lie in a file."""

from collections.abc import Iterator, Mapping
from typing import Any

from serve_app.codec.native.weights import Array, BlockWeights, DecoderWeights, LayerWeights, Norm, Product

Arrays = Mapping[str, Array]


def arrays_of(weights: DecoderWeights) -> dict[str, Array]:
    """By names such as `layers.0.qkv.weight`."""
    named: dict[str, Array] = {"table": weights.table, "spread": weights.spread, "frequencies": weights.frequencies}
    for name, product in _products(weights):
        named[f"{name}.weight"] = product.weight
        if product.bias is not None:
            named[f"{name}.bias"] = product.bias
    for number, layer in enumerate(weights.layers):
        for name, norm in (("attention_norm", layer.attention_norm), ("mlp_norm", layer.mlp_norm)):
            named |= {f"layers.{number}.{name}.weight": norm.weight, f"layers.{number}.{name}.bias": norm.bias}
    return named


def numbers_of(weights: DecoderWeights) -> dict[str, Any]:
    """What is not an array, as JSON takes it."""
    return {
        "num_layers": len(weights.layers),
        "num_heads": weights.num_heads,
        "context": weights.context,
        "num_positions": weights.num_positions,
        "strides": [block.stride for block in weights.blocks],
    }


def weights_of(arrays: Arrays, numbers: Mapping[str, Any]) -> DecoderWeights:
    """What `arrays_of` and `numbers_of` took apart. Raises KeyError where a part is missing."""
    return DecoderWeights(
        table=arrays["table"],
        spread=arrays["spread"],
        frequencies=arrays["frequencies"],
        layers=[_layer(arrays, f"layers.{number}") for number in range(numbers["num_layers"])],
        num_heads=numbers["num_heads"],
        context=numbers["context"],
        first=_product(arrays, "first"),
        blocks=[_block(arrays, f"blocks.{number}", stride) for number, stride in enumerate(numbers["strides"])],
        last=_product(arrays, "last"),
        num_positions=numbers["num_positions"],
    )


def _products(weights: DecoderWeights) -> Iterator[tuple[str, Product]]:
    yield "first", weights.first
    yield "last", weights.last
    for number, layer in enumerate(weights.layers):
        parts = {"qkv": layer.qkv, "out": layer.out, "up": layer.up, "down": layer.down}
        yield from ((f"layers.{number}.{name}", product) for name, product in parts.items())
    for number, block in enumerate(weights.blocks):
        parts = {"spread": block.spread, "narrow": block.narrow, "widen": block.widen}
        yield from ((f"blocks.{number}.{name}", product) for name, product in parts.items())


def _product(arrays: Arrays, name: str) -> Product:
    return Product(arrays[f"{name}.weight"], arrays.get(f"{name}.bias"))


def _norm(arrays: Arrays, name: str) -> Norm:
    return Norm(arrays[f"{name}.weight"], arrays[f"{name}.bias"])


def _layer(arrays: Arrays, name: str) -> LayerWeights:
    return LayerWeights(
        attention_norm=_norm(arrays, f"{name}.attention_norm"),
        qkv=_product(arrays, f"{name}.qkv"),
        out=_product(arrays, f"{name}.out"),
        mlp_norm=_norm(arrays, f"{name}.mlp_norm"),
        up=_product(arrays, f"{name}.up"),
        down=_product(arrays, f"{name}.down"),
    )


def _block(arrays: Arrays, name: str, stride: int) -> BlockWeights:
    spread, narrow, widen = (_product(arrays, f"{name}.{part}") for part in ("spread", "narrow", "widen"))
    return BlockWeights(spread, narrow, widen, stride)
