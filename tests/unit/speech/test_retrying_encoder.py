"""An encoder replica that dies over a clip: another one is asked, so many times."""

import pytest

from serve_app.errors import CsmServeError, GenerationFailed, InvalidAudio, NotReady, Overloaded, ReplicaLost
from serve_app.messages import Codes, ContextSegment
from serve_app.settings import FailoverSettings
from serve_app.speech.failover import RetryingEncoder
from tests.support.fakes import FakeEncoder, frames_of
from tests.support.recording_meter import RecordingMeter

CLIP = b"\7\0" * 1920


class FailingEncoder(FakeEncoder):
    """Raises these first."""

    def __init__(self, *errors: CsmServeError) -> None:
        super().__init__()
        self._errors = list(errors)

    async def encode(self, pcm: bytes, owner: str = "") -> Codes:
        if self._errors:
            raise self._errors.pop(0)
        return await super().encode(pcm)

    async def default_voices(self) -> dict[int, ContextSegment]:
        if self._errors:
            raise self._errors.pop(0)
        return await super().default_voices()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def skip(_: float) -> None:
        pass

    monkeypatch.setattr("serve_app.speech.failover.asyncio.sleep", skip)


async def test_a_clip_is_encoded_again_by_another_replica() -> None:
    meter = RecordingMeter()
    encoder = FailingEncoder(ReplicaLost("died"), NotReady("none yet"), Overloaded("busy", 2), ReplicaLost("died"))
    assert await RetryingEncoder(encoder, FailoverSettings(), meter).encode(CLIP) == frames_of(7, 1)
    assert len(meter.observed["csm_failover_seconds{encoder}"]) == 1


async def test_so_are_the_voices_asked_for() -> None:
    assert await RetryingEncoder(FailingEncoder(ReplicaLost("died")), FailoverSettings()).default_voices() == {}


async def test_losses_are_bounded() -> None:
    meter = RecordingMeter()
    encoder = RetryingEncoder(FailingEncoder(*[ReplicaLost("died")] * 9), FailoverSettings(max_losses=2), meter)
    with pytest.raises(GenerationFailed, match="no replica could go on with the context audio"):
        await encoder.encode(CLIP)
    assert meter.counted == {"csm_failovers_failed_total{encoder}": 1}


@pytest.mark.parametrize("error", [Overloaded("busy", 2), NotReady("loading"), InvalidAudio("context", "empty")])
async def test_what_is_no_loss_is_told_at_once(error: CsmServeError) -> None:
    encoder = FailingEncoder(error)
    with pytest.raises(type(error)):
        await RetryingEncoder(encoder, FailoverSettings()).encode(CLIP)
    assert not encoder.clips
