"""What an engine says of itself, for metrics and for whoever decides on the number of replicas."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine holds right now."""

    running: int
    waiting: int
    slots: int
    prompt_positions: int = 0
    restored_positions: int = 0
    """Of the prompts since the start, and how many of their positions came from the prefix cache."""
    paused: int = 0
    """Of those that run: far enough ahead of their listeners to be left out of the steps."""
    capacity: int = 0
    """How many slots the measured step time allows: more sequences are not let in."""
    step_ms: float = 0.0
    """What a step of the sequences that decode now takes, as measured; 0 before anything was."""
    refused: int = 0
    """Requests since the start for which there was no room, or no slot in time. They are demand too."""
    oldest_wait_seconds: float = 0.0
    """Of the requests that wait to be accepted; background work may wait, and does not count."""
    set_aside: int = 0
    """How often since the start a background sequence gave up its slot."""
