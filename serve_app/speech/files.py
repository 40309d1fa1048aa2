"""Stores answers, and context audio that a job will need."""

import base64
import hashlib
import hmac
import math

from serve_app.audio.encode.formats import coding_of
from serve_app.errors import DownloadFailed, FileTooLarge, UnknownFile
from serve_app.speech.encoding import encoded_whole
from serve_app.speech.scene import AnswerFile, FileAudio
from serve_app.store.files import FileStore
from serve_app.store.stored_file import StoredFile

_MAX_VOICE_BYTES = 1024 * 1024


class SpeechFiles:
    """Derives each file's id from its purpose, so that repeated work stores no second file."""

    def __init__(self, files: FileStore, secret: bytes) -> None:
        """`secret`: the same in all replicas, for good. Without it, ids cannot be computed from job ids or clips."""
        self._files = files
        self._secret = secret

    async def put_answer(self, wish: AnswerFile, request_id: str, owner: str, pcm: bytes) -> StoredFile:
        """The stored answer. Raises what storing a file raises."""
        coding = coding_of(wish.format, wish.sample_rate_hz, wish.speed)
        return await self._files.put(
            await encoded_whole(pcm, coding),
            name=f"speech.{coding.format.extension}",
            content_type=coding.format.media_type,
            owner=owner,
            seconds=wish.kept_seconds,
            file_id=self._file_id("answer", request_id),
        )

    async def put_context(self, data: bytes, owner: str, seconds: float) -> FileAudio:
        """Store context audio for at least `seconds`. Equal bytes of one owner are one file."""
        file_id = self._file_id("input", owner, hashlib.sha256(data).hexdigest())
        is_kept = False
        while not is_kept:  # an existing file keeps its own expiry, which may be now
            await self._files.put(
                data,
                name="context",
                content_type="application/octet-stream",
                owner=owner,
                seconds=seconds,
                file_id=file_id,
            )
            is_kept = await self._files.keep(file_id, seconds)
        return FileAudio(file_id)

    async def find_voice(self, *parts: str) -> bytes | None:
        """The codes that `put_voice` stored under these names."""
        try:
            return await self._files.read_all(self._file_id("speaker", *parts), _MAX_VOICE_BYTES)
        except UnknownFile:
            return None

    async def put_voice(self, codes: bytes, *parts: str) -> bytes:
        """Keep the codes of a speaker's voice for good. Returns those that another replica kept first, if one did."""
        file = await self._files.put(
            codes,
            name="speaker.safetensors",
            content_type="application/octet-stream",
            owner="",
            seconds=math.inf,
            file_id=self._file_id("speaker", *parts),
        )
        return await self._files.read_all(file.id, _MAX_VOICE_BYTES)

    async def read(self, path: str, file_id: str, max_bytes: int) -> bytes:
        """A stored file's bytes. Raises DownloadFailed or FileTooLarge at `path`."""
        try:
            return await self._files.read_all(file_id, max_bytes)
        except UnknownFile:
            raise DownloadFailed(path, "the file is not here any more: upload it again") from None
        except FileTooLarge as error:
            raise error.at(path) from None

    async def exists(self, file_id: str) -> bool:
        try:
            await self._files.info(file_id)
        except UnknownFile:
            return False
        return True

    def _file_id(self, *parts: str) -> str:
        digest = hmac.digest(self._secret, "/".join(parts).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:24]).decode()
