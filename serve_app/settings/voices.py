"""Settings of kept voices. The text under a field is its row in docs/configure.md."""

from pydantic import Field

from serve_app.settings.section import Section


class VoiceSettings(Section):
    """Voices that callers keep on this server."""

    max_per_key: int = Field(default=100, ge=0)
    """Voices that one key may keep, or all callers together on a server without keys. 0 keeps none."""
    max_clips: int = Field(default=8, ge=1)
    """Clips of one voice."""
    min_seconds: float = Field(default=3.0, gt=0)
    """Shortest clip of a voice, without the silence around it."""
    max_seconds: float = Field(default=40.0, gt=0)
    """Longest clip of a voice, and the length of all its clips together."""
