"""Mimi, the codec: context audio to codes, and codes to sound.

While moshi is imported it decides whether to use torch.compile for its rotary embedding. This file runs before any
module that imports moshi, so that it can switch that off. Compiling needs a C++ or Triton toolchain, which a serving
image lacks, and many seconds at a replica's first frame. It would save little, because on CUDA the layers replay as a
graph.
"""

import os

os.environ["NO_TORCH_COMPILE"] = "1"
