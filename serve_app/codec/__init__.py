"""Mimi, the codec: context audio to codes, and codes to sound.

moshi decides while it is imported whether to hand its rotary embedding to torch.compile. We say no, here, because this
file runs before any of the modules that import moshi: compiling takes a C++ or Triton toolchain, which a serving image
does not have, and many seconds at a replica's first frame. It would save little: on CUDA the layers replay as a graph.
"""

import os

os.environ["NO_TORCH_COMPILE"] = "1"
