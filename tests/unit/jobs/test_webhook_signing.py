"""A signature that fal's receivers verify, and the public key they verify it with."""

import pytest

from serve_app.jobs.webhook import WebhookSigner, new_private_key
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets
from tests.support.webhook_verifier import verify


def test_a_receiver_verifies_what_we_sign() -> None:
    signer = WebhookSigner(new_private_key())
    headers = signer.headers("r-1", "user-1", b'{"status":"OK"}', 1_700_000_000.9)
    assert headers["X-Fal-Webhook-Timestamp"] == "1700000000"
    assert verify(signer.jwks(), headers, b'{"status":"OK"}')


@pytest.mark.parametrize("header", ["Request-Id", "User-Id", "Timestamp"])
def test_what_was_changed_on_the_way_is_noticed(header: str) -> None:
    signer = WebhookSigner(new_private_key())
    headers = signer.headers("r-1", "user-1", b"{}", 1_700_000_000)
    assert not verify(signer.jwks(), headers | {f"X-Fal-Webhook-{header}": "2"}, b"{}")
    assert not verify(signer.jwks(), headers, b"{ }")


def test_the_public_key_is_a_json_web_key_set() -> None:
    (key,) = WebhookSigner(new_private_key()).jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert len(key["x"]) == 43 and "=" not in key["x"]


def test_all_replicas_sign_with_one_key(database: Database) -> None:
    first, second = (WebhookSigner.open(Secrets(database)) for _ in range(2))
    assert first.jwks() == second.jwks() != WebhookSigner(new_private_key()).jwks()
