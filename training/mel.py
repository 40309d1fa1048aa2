"""Triangular mel filters."""

import numpy as np
from numpy.typing import NDArray


def mel_bank(fft_size: int, bands: int, sample_rate: int, lowest_hz: float, highest_hz: float) -> NDArray[np.float32]:
    """`[bands, fft_size / 2 + 1]`; each band's weights sum to about one, so that wide ones are no louder."""
    edges = _hz(np.linspace(_mel(lowest_hz), _mel(highest_hz), bands + 2))
    bins = np.linspace(0, sample_rate / 2, fft_size // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None)
    return (triangles / np.maximum(triangles.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def _mel(hz: float) -> float:
    return 2595 * np.log10(1 + hz / 700)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)
