"""What the audio decoder asks of a codec, and which codec a replica loads."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.codec.native.decoder import native_slots
from serve_app.codec.preparation import prepared_codec
from serve_app.settings import Settings


class Slots(Protocol):
    """A codec with a fixed number of streams, as `decoder.SlotDecoder`."""

    frames_per_call: int
    """Of all streams together, but one of each at least. More in one call save nothing, and all wait for its end."""

    def open(self) -> int | None: ...

    def close(self, slot: int) -> None: ...

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        """By slot, [frames, codebooks] to the samples of all of them, one after the other."""
        ...

    def warm_up(self) -> None: ...


def load_slots(settings: Settings) -> Slots:
    """Of the model that the settings name. Raises StartupError where its codec cannot be loaded."""
    # Imported here: with a stand-in, and with a prepared codec, a replica does without torch.
    if settings.stand_in is not None:
        from serve_app.codec.stand_in import StandInSlots

        return StandInSlots(settings.stand_in, settings.codec.max_streams)
    if (ready := prepared_codec(settings)) is not None:
        return native_slots(ready.weights, settings.codec)
    from serve_app.codec.loading import load_codec
    from serve_app.codec.step_choice import make_slots

    _, mimi = load_codec(settings, settings.codec.max_streams)
    return make_slots(settings.codec, mimi)
