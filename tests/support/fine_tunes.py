"""Adapters that PEFT itself trains nothing of but writes, with random numbers, and what it says with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import CsmForConditionalGeneration

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> CsmForConditionalGeneration:
    return CsmForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()


def make_adapter(
    base: Path,
    folder: Path,
    seed: int = 0,
    size: float = 0.3,
    change: Callable[[torch.nn.Module], None] = lambda model: None,
    **config: Any,
) -> CsmForConditionalGeneration:
    """Write an adapter of `base` into `folder` and return transformers' model with it, not merged.

    `size` is the deviation of the low-rank numbers. `change` may alter the model before it is saved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION + MLP, **config}
        model = peft.get_peft_model(load_base(base), peft.LoraConfig(**options), autocast_adapter_dtype=False)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name and "magnitude" not in name and "codec_model" not in name:
                    parameter.normal_(std=size / parameter.shape[-1] ** 0.5)
        change(model)
        model.eval().save_pretrained(str(folder))
    return model.base_model.model


@torch.inference_mode()
def said(model: CsmForConditionalGeneration, ids: list[int], num_frames: int) -> list[list[int]]:
    """The codes that transformers' model generates greedily after a prompt of text alone."""
    frames = model.generate(
        input_ids=torch.tensor([ids]), do_sample=False, depth_decoder_do_sample=False, max_new_tokens=num_frames
    )
    return frames[0].tolist()
