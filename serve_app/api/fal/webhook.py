"""Webhooks as fal sends them: Ed25519 over id, user, time and the hash of the body."""

import base64
import hashlib
import json
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serve_app.api.fal.job_answers import answer_of
from serve_app.jobs.job import JobResult
from serve_app.store.secrets import Secrets

_SECRET = "webhook-signing-key"


class FalWebhookFormat:
    """A `jobs.webhooks.WebhookFormat`. All replicas sign with one key for good: receivers cache the public one."""

    def __init__(self, private_key: bytes) -> None:
        """`private_key`: 32 bytes, as `new_private_key` makes them."""
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)

    @classmethod
    def open(cls, secrets: Secrets) -> Self:
        return cls(secrets.get(_SECRET, new_private_key))

    def body(self, job_id: str, result: JobResult) -> str:
        """Both ids are the job's, since there is no gateway in between."""
        status, payload = answer_of(result)
        message: dict[str, Any] = {"request_id": job_id, "gateway_request_id": job_id}
        if result.is_success:
            message |= {"status": "OK", "error": None, "payload": payload}
        else:
            message |= {"status": "ERROR", "error": f"Invalid status code: {status}", "payload": payload}
        return json.dumps(message, ensure_ascii=False)

    def headers(self, request_id: str, user_id: str, body: bytes, now: float) -> dict[str, str]:
        """For one delivery: receivers refuse a timestamp that is five minutes old."""
        timestamp = str(int(now))
        message = "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": self._key.sign(message.encode()).hex(),
        }

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517, 8037)."""
        public = self._key.public_key().public_bytes_raw()
        key_id = hashlib.sha256(public).hexdigest()[:16]
        key = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(public), "kid": key_id, "alg": "EdDSA", "use": "sig"}
        return {"keys": [key]}


def new_private_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes_raw()


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
