"""Which codec turns frames into sound on this machine."""

import logging

from moshi.models.compression import MimiModel

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.native.decoder import native_slots, unusable
from serve_app.codec.native.from_mimi import decoder_weights, inexpressible
from serve_app.codec.slots import Slots
from serve_app.errors import StartupError
from serve_app.settings import CodecSettings

_log = logging.getLogger(__name__)


def make_slots(settings: CodecSettings, mimi: MimiModel) -> Slots:
    """What `settings.step` comes to for `mimi`; `mimi` is not to be used any more.

    Raises StartupError where what was asked for by name cannot run.
    """
    if settings.step == "moshi" or not _can_be_native(settings, mimi):
        _log.info("codec: moshi decodes, one frame of %d slots at a time", settings.max_streams)
        return SlotDecoder(mimi, settings.max_streams)
    return native_slots(decoder_weights(mimi), settings)


def _can_be_native(settings: CodecSettings, mimi: MimiModel) -> bool:
    if settings.step == "auto" and next(mimi.parameters()).device.type != "cpu":
        return False  # moshi is the only one there, which is no news
    reason = inexpressible(mimi) or unusable()
    if reason is None:
        return True
    if settings.step == "native":
        raise StartupError(f"codec.step: native cannot run here ({reason}); use auto or moshi")
    _log.warning("the native codec cannot run here, a slower one will: %s", reason)
    return False
