"""What the libraries are, and whether cuDNN's attention plans anew for each length.

python -m benchmarks.gpu.probe --json FILE
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

_LENGTHS = (401, 433, 470)
"""Of a context that prefill reads: none is a multiple of what a kernel likes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    found = _versions()
    for is_on in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(is_on)
        found[f"masked attention, cuDNN {'on' if is_on else 'off'}, ms"] = [_first_call_ms(n) for n in _LENGTHS]
    options.json.write_text(json.dumps(found, indent=1))


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "CUDA": torch.version.cuda}
    if torch.cuda.is_available():
        found |= {"card": torch.cuda.get_device_name(), "cuDNN": torch.backends.cudnn.version()}
        found["memory"] = f"{torch.cuda.mem_get_info()[1] / 1e9:.0f} GB"
    return found


def _first_call_ms(length: int) -> float:
    """Of a shape that was not seen before."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    queries = torch.randn(1, 32, 64, 64, device=device, dtype=torch.bfloat16)
    keys = torch.randn(1, 32, length, 64, device=device, dtype=torch.bfloat16)
    mask = torch.ones(64, length, device=device, dtype=torch.bool).tril(length - 64)
    _wait()
    began = time.perf_counter()
    F.scaled_dot_product_attention(queries, keys, keys, attn_mask=mask)
    _wait()
    return round(1000 * (time.perf_counter() - began), 2)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
