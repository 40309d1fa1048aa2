"""Step 1: a small Mimi on robot speech. `python -m training.codec --folder build/demo-voice`"""

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from moshi.models.compression import MimiModel
from numpy.typing import NDArray
from torch import Tensor

from training.command import folder_argument
from training.espeak import Espeak
from training.mel import mel_bank
from training.robot_speech import FRAME_SAMPLES, SAMPLE_RATE_HZ, say
from training.shape import new_codec
from training.steps import Figures, is_finished, resumable_steps, warm_then_fall
from training.texts import Sentences

FILE = "codec.pt"
STEPS = 5000
_AUTOENCODER_STEPS = 1000
"""Past the quantizer at first, so that its codebooks start on latents that mean something."""
_UTTERANCES, _SEED = 3000, 1
_ROWS, _ROW_SAMPLES = 12, 6 * FRAME_SAMPLES
_FROM_START = 0.3
_LEARNING_RATE = 2e-3
_WINDOWS = ((2048, 80), (1024, 80), (512, 64), (256, 32))
"""FFT size and mel bands of each resolution of the loss."""

log = logging.getLogger("training")


def trained_codec(folder: Path) -> MimiModel:
    codec = new_codec()
    codec.load_state_dict(torch.load(folder / FILE)["codec"])
    return codec.eval()


class SpectralLoss:
    """Distance of logarithmic spectra, mel and linear, at four resolutions (Yamamoto et al., 2020, without phase)."""

    def __init__(self) -> None:
        banks = [mel_bank(size, bands, SAMPLE_RATE_HZ, 30, 11_000) for size, bands in _WINDOWS]
        self._parts = [
            (size, torch.hann_window(size), torch.from_numpy(bank))
            for (size, _), bank in zip(_WINDOWS, banks, strict=True)
        ]

    def __call__(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Of two `[rows, samples]`."""
        total = torch.zeros(())
        for size, window, bank in self._parts:
            a, b = (torch.stft(x, size, size // 4, window=window, return_complex=True).abs() for x in (made, wanted))
            total = total + _log_distance(bank @ a, bank @ b) + 0.5 * _log_distance(a, b)
        return total / len(self._parts)


def _log_distance(a: Tensor, b: Tensor) -> Tensor:
    return (torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean()


def train(folder: Path) -> None:
    if is_finished(folder / FILE, STEPS):
        return
    log.info("codec: speaking %d sentences", _UTTERANCES)
    espeak, sentences = Espeak(), islice(Sentences(_SEED), _UTTERANCES)
    waves = [say(espeak, text, number % 2).wave for number, text in enumerate(sentences)]
    torch.manual_seed(0)
    codec = new_codec().train()
    optimizer = torch.optim.AdamW(codec.parameters(), _LEARNING_RATE, betas=(0.8, 0.95), weight_decay=1e-4)
    distance, figures = SpectralLoss(), Figures()
    for step in resumable_steps(folder / FILE, {"codec": codec, "optimizer": optimizer}, STEPS, figures):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * warm_then_fall(step, STEPS, hold=0)
        wanted = _rows(waves, np.random.default_rng((_SEED, step)))
        made, penalty = _through(codec, wanted, quantized=step >= _AUTOENCODER_STEPS)
        loss = distance(made[:, 0], wanted[:, 0])
        optimizer.zero_grad()
        (loss + 0.25 * penalty).backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        figures.add({"loss": loss.item()})


def _rows(waves: Sequence[NDArray[np.float32]], draw: np.random.Generator) -> Tensor:
    """`[rows, 1, samples]`, cut out at frames; some from the start, as every stream begins."""
    rows = []
    for _ in range(_ROWS):
        wave = waves[int(draw.integers(len(waves)))]
        wave = np.pad(wave, (0, max(0, _ROW_SAMPLES - len(wave))))
        last = (len(wave) - _ROW_SAMPLES) // FRAME_SAMPLES
        start = 0 if draw.random() < _FROM_START else int(draw.integers(last + 1)) * FRAME_SAMPLES
        rows.append(wave[start : start + _ROW_SAMPLES])
    return torch.from_numpy(np.stack(rows))[:, None]


def _through(codec: MimiModel, wave: Tensor, quantized: bool) -> tuple[Tensor, Tensor]:
    """The sound that comes out, and what the quantizer wants to have less of."""
    if quantized:
        result = codec(wave)
        assert result.penalty is not None, "a codec in training has one"
        return result.x, result.penalty.mean()
    # moshi offers no way past its quantizer: the same parts, in its own order.
    assert codec.encoder_transformer is not None and codec.decoder_transformer is not None
    latent = codec._to_framerate(codec.encoder_transformer(codec.encoder(wave))[0])
    sound = codec.decoder(codec.decoder_transformer(codec._to_encoder_framerate(latent))[0])
    return sound[..., : wave.shape[-1]], torch.zeros(())


if __name__ == "__main__":
    train(folder_argument(__doc__))
