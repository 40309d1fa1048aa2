import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.store.stored_file import MAX_NAME_CHARS, ascii_name, file_path, new_file_id, safe_content_type, safe_name


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("speech.wav", "speech.wav"),
        ("Grüße aus Köln.mp3", "Grüße aus Köln.mp3"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("a\r\nSet-Cookie: x=1", "a_Set-Cookie_ x=1"),
        ('a"; filename="b.exe', "a_ filename=_b.exe"),
        ("evil\u202egnp.exe", "evil_gnp.exe"),
        ("..", "file"),
        ("", "file"),
        (" . ", "file"),
        ("\0", "_"),
        ("half \ud800 pair", "half _ pair"),
        ("x" * 500 + ".flac", "x" * (MAX_NAME_CHARS - 5) + ".flac"),
        ("x" * 500, "x" * MAX_NAME_CHARS),
    ],
    ids=ascii,
)
def test_a_name_keeps_what_is_harmless(given_name: str, kept: str) -> None:
    assert safe_name(given_name) == kept


@given(name=st.text())
def test_any_name_is_safe_in_headers_and_paths(name: str) -> None:
    kept, plain = safe_name(name), ascii_name(name)
    assert kept == safe_name(kept)
    assert 0 < len(kept) <= MAX_NAME_CHARS
    assert kept.isprintable() or " " in kept or not kept.isascii()
    assert not set(kept) & set('\r\n\0"\\/')
    kept.encode()
    assert plain.isascii() and not set(plain) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert plain and not plain.startswith(".")


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [
        ("audio/wav", "audio/wav"),
        ("audio/L16;rate=24000; channels=1", "audio/L16;rate=24000; channels=1"),
        ("application/vnd.api+json", "application/vnd.api+json"),
        ('audio/ogg; codecs="opus"', "audio/ogg"),
        ("audio/wav\r\nSet-Cookie: x=1", "application/octet-stream"),
        ("audio/wav; a=\r\nb", "audio/wav"),
        ("audio", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("audio/wav\n", "audio/wav"),
        ("äudio/wav", "application/octet-stream"),
        ("a/" + "b" * 100, "application/octet-stream"),
    ],
    ids=ascii,
)
def test_a_content_type_is_one_or_that_of_bytes(given_type: str, kept: str) -> None:
    assert safe_content_type(given_type) == kept


def test_ids_are_long_and_fit_a_path() -> None:
    ids = {new_file_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 32 and file_path(one, "a b.wav") == f"/files/{one}/a_b.wav" for one in ids)
