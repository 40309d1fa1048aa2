"""How far codes and logits agree. Shapes: F frames, K codebooks, C codes of a codebook."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two utterances differ. A code is None where that utterance had ended."""

    frame: int
    codebook: int
    ours: int | None
    theirs: int | None

    def __str__(self) -> str:
        if self.ours is None or self.theirs is None:
            return f"{'ours' if self.ours is None else 'transformers'} ends before frame {self.frame}"
        return f"frame {self.frame}, codebook {self.codebook}: {self.ours}, transformers has {self.theirs}"


def first_difference(ours: NDArray[np.integer], theirs: NDArray[np.integer]) -> Difference | None:
    """In the order in which codes are drawn; `ours` and `theirs` are [frames, K] of any two lengths."""
    both = min(len(ours), len(theirs))
    places = np.argwhere(ours[:both] != theirs[:both])
    if len(places):
        frame, codebook = (int(number) for number in places[0])
        return Difference(frame, codebook, int(ours[frame, codebook]), int(theirs[frame, codebook]))
    if len(ours) == len(theirs):
        return None
    return Difference(
        both, 0, int(ours[both, 0]) if len(ours) > both else None, int(theirs[both, 0]) if len(theirs) > both else None
    )


def spread(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Standard deviation over the codes, [F, K]: what makes logits of any model comparable."""
    return np.maximum(logits.std(axis=-1), np.finfo(np.float32).tiny)


def largest_difference(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> tuple[float, float]:
    """Of two sets of logits [F, K, C]: as it is, and in spreads. Infinite where one holds what is no number."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return np.inf, np.inf
    apart = np.abs(ours - theirs).max(axis=-1)
    return float(apart.max()), float((apart / spread(theirs)).max())


def regrets(logits: NDArray[np.floating], codes: NDArray[np.integer]) -> NDArray[np.floating]:
    """How far below the favourite each code is that was drawn, in spreads: [F, K].

    0 for the favourite itself, small where another was about as good, and 3 or 4 for a code drawn at random.
    """
    drawn = np.take_along_axis(logits, codes[..., None].astype(np.int64), axis=-1)[..., 0]
    return (logits.max(axis=-1) - drawn) / spread(logits)
