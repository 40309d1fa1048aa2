"""Mimi, the codec: context audio to codes, and codes to sound.

This file runs before any module that imports moshi, so that it can switch off two of its habits. On being imported,
moshi decides whether to use torch.compile for its rotary embedding. Compiling needs a C++ or Triton toolchain, which a
serving image lacks, and many seconds at a replica's first frame. It would save little, because on CUDA a whole frame
replays as a graph (`bank.py`). The other habit is to record graphs of parts of a frame, which cannot be nested in ours.
"""

import os

os.environ["NO_TORCH_COMPILE"] = "1"
os.environ["NO_CUDA_GRAPH"] = "1"
