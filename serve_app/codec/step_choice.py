"""Which codec turns frames into sound on this machine."""

import logging

import torch
from moshi.models.compression import MimiModel

from serve_app.codec.decoder import SlotDecoder
from serve_app.codec.decoder_service import Slots
from serve_app.errors import StartupError
from serve_app.settings import CodecSettings

_log = logging.getLogger(__name__)


def make_slots(settings: CodecSettings, mimi: MimiModel) -> Slots:
    """What `settings.step` comes to for `mimi`, with torch's number of threads; `mimi` is not to be used any more.

    Raises StartupError where what was asked for by name cannot run.
    """
    if settings.step == "moshi" or not _can_be_native(settings, mimi):
        _log.info("codec: moshi decodes, one frame of %d slots at a time", settings.max_streams)
        return SlotDecoder(mimi, settings.max_streams)
    from serve_app.codec.native.decoder import NativeSlotDecoder

    num_threads = torch.get_num_threads()
    _log.info("codec: the native decoder, %d slots, %d threads", settings.max_streams, num_threads)
    return NativeSlotDecoder(mimi, settings.max_streams, num_threads)


def _can_be_native(settings: CodecSettings, mimi: MimiModel) -> bool:
    if settings.step == "auto" and next(mimi.parameters()).device.type != "cpu":
        return False  # moshi is the only one there, which is no news
    from serve_app.codec.native.decoder import supports

    reason = supports(mimi)
    if reason is None:
        return True
    if settings.step == "native":
        raise StartupError(f"codec.step: native cannot run here ({reason}); use auto or moshi")
    _log.warning("the native codec cannot run here, a slower one will: %s", reason)
    return False
