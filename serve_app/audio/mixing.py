"""Channels to one, without losing the voice: channels in opposite phase cancel in a mean, a dead one halves it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_DEAD = 1e-4
"""Share of the loudest channel's energy (-40 dB) below which a channel holds nothing of the recording."""
_OPPOSITE = -0.5
"""Correlation with the loudest channel."""
_CANCELLED = 0.05
"""Share of the loudest channel's energy (-13 dB) below which a mix has lost it."""


@dataclass(slots=True)
class ChannelEnergies:
    """Sums over a stretch of a recording, from which the mix of its channels is chosen."""

    channels: int
    _frames: int = 0
    _sum: NDArray[np.float64] = field(init=False)
    _products: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._sum = np.zeros(self.channels)
        self._products = np.zeros((self.channels, self.channels))

    def add(self, samples: NDArray[np.float64]) -> None:
        """samples: [frames, channels], finite."""
        if self.channels == 1:
            return
        self._frames += len(samples)
        self._sum += np.ones(len(samples)) @ samples  # ten times as fast as a sum over so few columns
        self._products += samples.T @ samples

    def better_weights(self) -> NDArray[np.float64] | None:
        """[channels], or None where the mean of all channels is right."""
        if not self._frames:
            return None
        # A constant offset is no sound.
        products = self._products - np.outer(self._sum, self._sum) / self._frames
        energies = np.maximum(np.diagonal(products), 0)
        loudest = int(np.argmax(energies))
        if energies[loudest] <= 0:
            return None
        alive = energies > _DEAD * energies[loudest]
        correlation = products[loudest] / np.sqrt(np.where(alive, energies, 1) * energies[loudest])
        signs = np.where(alive & (correlation < _OPPOSITE), -1.0, 1.0)
        weights = alive * signs / np.count_nonzero(alive)
        if weights @ products @ weights < _CANCELLED * energies[loudest] / np.count_nonzero(alive):
            weights = np.eye(self.channels)[loudest]
        return None if np.all(weights > 0) else weights
