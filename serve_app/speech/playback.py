"""Models a listener's player: it starts with the first chunk and stands still while one is late."""

from dataclasses import dataclass


@dataclass(slots=True)
class Playback:
    """Lateness and underrun as `benchmarks/load/timeline.py` has them, seen from the server's end of the wire."""

    speed: float = 1.0
    """How fast the player plays what it hears."""
    num_chunks: int = 0
    audio_seconds: float = 0.0
    """Of all chunks so far."""
    underrun_seconds: float = 0.0
    """The worst lateness, which is how long a player that waits for late chunks stands still in total."""
    _began_at: float = 0.0
    _rests: bool = False

    def rest(self, at: float) -> None:
        """Text was awaited until `at`. A listener who has heard everything by then starts again with the next chunk."""
        self._rests = at >= self._began_at + self._playing_seconds

    def hear(self, at: float, audio_seconds: float) -> float | None:
        """A chunk's lateness, negative if it is early. None for the first, which starts the player."""
        lateness = None
        if self._rests:
            self._began_at, self._rests = at - self._playing_seconds, False
        if self.num_chunks:
            lateness = at - self._began_at - self._playing_seconds
            self.underrun_seconds = max(self.underrun_seconds, lateness)
        else:
            self._began_at = at
        self.num_chunks += 1
        self.audio_seconds += audio_seconds
        return lateness

    @property
    def _playing_seconds(self) -> float:
        return self.audio_seconds / self.speed
