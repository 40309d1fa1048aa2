"""Settings of what is kept of answers and conversations. The text under a field is its row in docs/configure.md."""

from pydantic import Field

from serve_app.settings.section import Section


class RecordSettings(Section):
    """Records of answers: their text, codes and times."""

    kept_seconds: float = Field(default=600.0, ge=0)
    """How long the record of an answer is kept. While it is, the answer can be had again in any format, timed, replayed
    and gone on with. 0 keeps none. The record of a job is kept as long as the job."""


class ConversationSettings(Section):
    """Conversations that the server holds."""

    kept_seconds: float = Field(default=24 * 3600.0, gt=0)
    """How long a conversation is kept after its last turn."""
    max_per_key: int = Field(default=100, ge=1)
    """Conversations of one key. One more gets 429. Without keys all callers together may have 100 times as many."""
    max_turns: int = Field(default=1000, ge=2)
    """Turns of one conversation."""
    lease_seconds: float = Field(default=30.0, gt=1)
    """A turn whose replica died keeps its conversation busy for this long."""
