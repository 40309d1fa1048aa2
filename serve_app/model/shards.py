"""Writes safetensors tensor by tensor, because the library's writer needs a whole file's tensors in memory.

The format: 8 bytes of header length, a JSON header of name to dtype, shape and byte range, then the bytes.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from serve_app.model.stored import DTYPES, StoredTensor

MAX_SHARD_BYTES = 4_500_000_000

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_shards(
    folder: Path, stem: str, tensors: Sequence[StoredTensor], progress: Callable[[int, int], None]
) -> None:
    """`{stem}-0000x-of-0000N.safetensors`, at least two of them as on the Hub, and their index.

    `progress` gets the bytes written so far and in all.
    """
    total = sum(tensor.num_bytes for tensor in tensors)
    shards = list(_split(tensors, min(MAX_SHARD_BYTES, total // 2 + 1)))
    weight_map: dict[str, str] = {}
    written = 0
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {tensor.name: name for tensor in shard}
        with (folder / name).open("wb") as file:
            for num_bytes in _write(file, shard):
                written += num_bytes
                progress(written, total)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _split(tensors: Sequence[StoredTensor], limit: int) -> Iterator[list[StoredTensor]]:
    shard: list[StoredTensor] = []
    size = 0
    for tensor in tensors:
        if shard and size + tensor.num_bytes > limit:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += tensor.num_bytes
    yield shard


def _write(file: BinaryIO, shard: Sequence[StoredTensor]) -> Iterator[int]:
    header = _header(shard)
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    for tensor in shard:
        value = tensor.make().to(tensor.dtype).contiguous()
        assert value.shape == tensor.shape
        file.write(value.flatten().view(torch.uint8).numpy().data)
        yield tensor.num_bytes


def _header(shard: Sequence[StoredTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in shard:
        end = offset + tensor.num_bytes
        entries[tensor.name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(entries).encode()
    return header + b" " * (-len(header) % 8)
