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
    best_seconds: float = Field(default=20.0, gt=0)
    """Of a longer clip the best stretch of at most this length is kept, if pauses in it match the transcript."""
    fixed_speakers: bool = True
    """Whether a speaker to whom neither the caller nor the checkpoint gives a voice always sounds the same. The first
    request for such a speaker takes a sentence longer. Off: CSM draws a voice at each call."""
    ear_url: str | None = None
    """A transcription service with OpenAI's API, such as `http://localhost:9000/v1`, which auditions and takes of jobs
    are sent to for the words in them. Unset: the words are not checked."""
    ear_model: str = "whisper-1"
    """The model that `voices.ear_url` is asked for."""
    pack_signers: list[str] = Field(default=[])
    """Public keys of other servers whose voice packs may be imported, as `GET /voices/signer` shows them."""
