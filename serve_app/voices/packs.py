"""Voice packs: a voice as one signed file, to carry it to another server or to keep it.

A pack is a safetensors file of the clips' sound. Its metadata hold a manifest, which names the hash of each clip, and
an Ed25519 signature of the manifest by the server that exported it. Codes are not in it: another codec has others.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from safetensors.numpy import save

from serve_app.errors import InvalidRequest
from serve_app.settings import VoiceSettings
from serve_app.store.secrets import Secrets
from serve_app.voices.arrays import sound_of
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Consent, Voice, checked_consent, checked_name, new_voice_id

_SECRET = "voice-packs"
_VERSION = 1
_MANIFEST, _SIGNATURE, _SIGNER = "csm_voice_pack", "signature", "signer"
_FIELD = "pack"


class VoicePacks:
    def __init__(self, library: VoiceLibrary, secrets: Secrets, settings: VoiceSettings) -> None:
        private = secrets.get(_SECRET, lambda: Ed25519PrivateKey.generate().private_bytes_raw())
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.signer = _text(self._key.public_key().public_bytes_raw())
        """This server's public key. Servers that list it in `voices.pack_signers` import its packs."""
        self._library = library
        self._settings = settings

    async def export(self, name_or_id: str, owner: str) -> tuple[Voice, bytes]:
        """The voice and its pack. Raises UnknownVoice."""
        voice = await self._library.find(name_or_id, owner)
        clips = await self._library.sound(voice)
        manifest = json.dumps(
            {
                "version": _VERSION,
                "name": voice.name,
                "transcripts": voice.transcripts,
                "consent": {"statement": voice.consent.statement, "by": voice.consent.by, "at": voice.consent_at},
                "clips": [hashlib.sha256(clip).hexdigest() for clip in clips],
                "report": {"clips": voice.report.get("clips", [])},
            }
        )
        metadata = {
            _MANIFEST: manifest,
            _SIGNATURE: _text(self._key.sign(manifest.encode())),
            _SIGNER: self.signer,
        }
        return voice, save({f"pcm.{n}": np.frombuffer(clip, "<i2") for n, clip in enumerate(clips)}, metadata)

    async def load(self, pack: bytes, owner: str, name: str | None = None) -> Voice:
        """Keep the voice of a pack, under its own name unless another is given.

        Raises InvalidRequest at `pack` for a file that is no pack, was changed, or comes from a server that is not
        listed, and what `VoiceLibrary.add` raises for names and quotas.
        """
        found = _Pack.read(pack, {self.signer, *self._settings.pack_signers})
        manifest = found.manifest
        self._check(found)
        given = manifest["consent"]
        consent = checked_consent(Consent(given["statement"], given["by"]))
        voice = Voice(
            id=new_voice_id(),
            owner=owner,
            name=checked_name(name or manifest["name"]),
            transcripts=tuple(manifest["transcripts"]),
            consent=consent,
            consent_at=float(given["at"]),
            created_at=0.0,
            report={**manifest["report"], "imported_from": found.signer},
        )
        return await self._library.keep(voice, found.clips)

    def _check(self, pack: "_Pack") -> None:
        num_clips = len(pack.clips)
        if num_clips > self._settings.max_clips:
            raise InvalidRequest(_FIELD, f"has {num_clips} clips, at most {self._settings.max_clips} are allowed")
        self._library.check_length([len(clip) for clip in pack.clips])


class _Pack:
    """A pack whose signature is good."""

    def __init__(self, manifest: dict[str, Any], clips: Sequence[bytes], signer: str) -> None:
        self.manifest, self.clips, self.signer = manifest, clips, signer

    @classmethod
    def read(cls, data: bytes, trusted: set[str]) -> Self:
        """Raises InvalidRequest."""
        try:
            clips = sound_of(data)
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            manifest, signature, signer = (metadata[name] for name in (_MANIFEST, _SIGNATURE, _SIGNER))
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest(_FIELD, "is not a voice pack: send a file that a server exported") from None
        if signer not in trusted:
            raise InvalidRequest(
                _FIELD, "was signed by a server that is not trusted here: list its key in voices.pack_signers"
            )
        changed = InvalidRequest(_FIELD, "was changed after it was signed: export it again")
        try:
            Ed25519PublicKey.from_public_bytes(_bytes(signer)).verify(_bytes(signature), manifest.encode())
        except (InvalidSignature, ValueError, binascii.Error):
            raise changed from None
        read = json.loads(manifest)
        hashes = [hashlib.sha256(clip).hexdigest() for clip in clips]
        if read["clips"] != hashes or len(read["transcripts"]) != len(hashes) or read["version"] != _VERSION:
            raise changed
        return cls(read, clips, signer)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)
