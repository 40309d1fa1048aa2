import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import InvalidSignature, Unauthorized
from serve_app.store.signing import Tokens, UrlSigner

SECRET = b"s" * 32
PATH = "/files/abc/speech.wav"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signer(clock: Clock) -> UrlSigner:
    return UrlSigner(SECRET, clock)


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(SECRET, clock)


def parsed(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@given(path=st.text(), name=st.text(), empty=st.just(""))
def test_a_signed_url_gives_its_claims_back(path: str, name: str, empty: str) -> None:
    signer = UrlSigner(SECRET)
    if any("\ud800" <= letter <= "\udfff" for letter in path + name):
        return
    query = signer.sign(path, 60, name=name, empty=empty)
    assert signer.check(path, parsed(query)) == {"name": name, "empty": empty}


def test_a_url_is_good_for_one_path(signer: UrlSigner) -> None:
    query = parsed(signer.sign(PATH, 60, owner="k"))
    for path in ("/files/abc/speech.mp3", PATH + "/", "", PATH + "&owner=k"):
        with pytest.raises(InvalidSignature, match="use the whole URL, unchanged"):
            signer.check(path, query)


@pytest.mark.parametrize(
    "change",
    [
        {"expires": "99999999999"},
        {"expires": "1000060.0"},
        {"expires": ""},
        {"owner": "another"},
        {"more": ""},
        {"sig": ""},
        {"sig": "A" * 43},
        {"sig": "\ud800"},
        {"owner": "\ud800"},
    ],
    ids=str,
)
def test_nothing_of_a_signed_url_can_be_changed(signer: UrlSigner, change: dict[str, str]) -> None:
    query = parsed(signer.sign(PATH, 60, owner="k"))
    with pytest.raises(InvalidSignature):
        signer.check(PATH, query | change)


@pytest.mark.parametrize("name", ["expires", "owner", "sig"])
def test_nothing_of_a_signed_url_can_be_left_out(signer: UrlSigner, name: str) -> None:
    query = parsed(signer.sign(PATH, 60, owner="k"))
    del query[name]
    with pytest.raises(InvalidSignature):
        signer.check(PATH, query)


def test_no_path_reads_as_another_with_claims(signer: UrlSigner) -> None:
    query = parsed(signer.sign("/a&owner=k", 60))
    with pytest.raises(InvalidSignature):
        signer.check("/a", query | {"owner": "k"})


def test_a_signed_url_ends(signer: UrlSigner, clock: Clock) -> None:
    query = parsed(signer.sign(PATH, 60))
    clock.now += 59
    assert signer.check(PATH, query) == {}
    clock.now += 1
    with pytest.raises(InvalidSignature, match="has expired"):
        signer.check(PATH, query)


def test_another_secret_signs_otherwise(signer: UrlSigner) -> None:
    with pytest.raises(InvalidSignature):
        UrlSigner(b"other").check(PATH, parsed(signer.sign(PATH, 60)))


def test_a_token_gives_its_claims_back(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue({"key_id": "k", "apps": ["csm-1b"]}, 120)
    assert tokens.read(token) == {"key_id": "k", "apps": ["csm-1b"], "exp": 1_000_120}
    header, payload, signature = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"] == 1_000_120
    assert "=" not in token and len(base64.urlsafe_b64decode(signature + "==")) == 32


def test_a_token_ends(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue({}, 120)
    clock.now += 120
    with pytest.raises(Unauthorized, match="has expired"):
        tokens.read(token)


def test_a_token_without_a_signature_is_refused(tokens: Tokens) -> None:
    claims = encoded({"key_id": "admin", "exp": 9e9})
    for token in (f"{encoded({'alg': 'none'})}.{claims}.", f"{encoded({'alg': 'none'})}.{claims}", claims):
        with pytest.raises(Unauthorized):
            tokens.read(token)


def test_a_token_signed_with_another_secret_is_refused(tokens: Tokens) -> None:
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded({'exp': 9e9})}"
    for secret in (b"", b"other", SECRET):  # the plain secret is no key either: each use has its own
        signature = hmac.digest(secret, signed.encode(), hashlib.sha256)
        with pytest.raises(Unauthorized):
            tokens.read(f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


@given(garbage=st.text(max_size=40) | st.sampled_from(["", ".", "..", "...", "\ud800.\udfff.\udfff", "é.é.é"]))
def test_garbage_is_no_token(garbage: str) -> None:
    with pytest.raises(Unauthorized):
        Tokens(SECRET).read(garbage)


@given(place=st.integers(min_value=0), letter=st.sampled_from("Aa0-_.="))
def test_a_changed_token_is_refused(place: int, letter: str) -> None:
    tokens = Tokens(SECRET)
    token = tokens.issue({"key_id": "k"}, 120)
    at = place % len(token)
    changed = token[:at] + letter + token[at + 1 :]
    if changed == token:
        return
    with pytest.raises(Unauthorized):
        tokens.read(changed)
