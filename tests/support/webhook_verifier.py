"""How a receiver verifies a webhook, as fal documents it for theirs."""

import base64
import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def verify(jwks: Mapping[str, list[dict[str, str]]], headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the keys signed it. `headers` by their names in lower case, or as they are documented."""
    said = {name.lower(): value for name, value in headers.items()}
    parts = [said[f"x-fal-webhook-{part}"] for part in ("request-id", "user-id", "timestamp")]
    message = "\n".join([*parts, hashlib.sha256(body).hexdigest()]).encode()
    signature = bytes.fromhex(said["x-fal-webhook-signature"])
    return any(_is_signed_by(key["x"], signature, message) for key in jwks["keys"])


def _is_signed_by(public_key: str, signature: bytes, message: bytes) -> bool:
    raw = base64.urlsafe_b64decode(public_key + "=" * (-len(public_key) % 4))
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except InvalidSignature:
        return False
    return True
