"""Statistics of an engine, for metrics and for autoscaling."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The state of the engine right now, and counts since its start."""

    running: int
    waiting: int
    slots: int
    prompt_positions: int = 0
    restored_positions: int = 0
    """Prompt positions since the start, and how many of them came from the prefix cache."""
    paused: int = 0
    """Running sequences that are left out of decode steps, because they are far ahead of their listeners."""
    capacity: int = 0
    """How many slots the measured step time allows. No more sequences are admitted."""
    step_ms: float = 0.0
    """The measured time of a decode step at the current batch size. 0 before the first measurement."""
    refused: int = 0
    """Requests since the start that were refused for want of a slot or of room to wait. They are demand too."""
    oldest_wait_seconds: float = 0.0
    """The longest wait of a request that is not accepted yet. Background work does not count."""
    set_aside: int = 0
    """How often since the start a background sequence was set aside for an interactive one."""
