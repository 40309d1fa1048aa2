import base64
import contextlib
from random import Random
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audio.payload import audio_bytes
from serve_app.errors import InvalidAudio

DATA = b"\xfb\xef\xbe\xff\x00audio"
STANDARD = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


def wrapped(text: str) -> str:
    return "".join(f"{text[i : i + 5]}\r\n\t " for i in range(0, len(text), 5))


@given(st.binary(min_size=1, max_size=64), st.booleans(), st.booleans())
def test_any_bytes_survive_either_alphabet_with_or_without_padding(data: bytes, url_safe: bool, padded: bool) -> None:
    value = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    assert audio_bytes("audio", value if padded else value.rstrip("=")) == data


@pytest.mark.parametrize(
    "value",
    [
        f"  {STANDARD}\n",
        wrapped(STANDARD),
        f"data:audio/wav;base64,{STANDARD}",
        f"data:;base64,{URL_SAFE}",
        f"DATA:application/octet-stream;name=a;BASE64,{wrapped(STANDARD)}",
        f"data:audio/webm;codecs=opus;base64,{STANDARD.rstrip('=')}",
        f"data:audio/wav;base64,{STANDARD.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
    ],
)
def test_usual_spellings_are_read(value: str) -> None:
    assert audio_bytes("audio", value) == DATA


@pytest.mark.parametrize(
    "value",
    [
        "",
        " \n",
        "====",
        "A",
        "QUJD*",
        "QU=JD",
        "QUJD=",
        "QUI===",
        "QUJDé",
        "\ud800",
        "https://example.com/a.wav",
        "data:audio/wav;base64,",
        f"data:audio/wav,{STANDARD}",
        f"data:audio/wav;base64;{STANDARD}",
        "data:audio/wav;base64,%zz",
    ],
)
def test_a_flaw_is_refused_with_the_field_and_a_remedy(value: str) -> None:
    with pytest.raises(InvalidAudio, match="base64") as refusal:
        audio_bytes("context[0].audio", value)
    assert refusal.value.field == "context[0].audio"


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(value: str) -> None:
    with contextlib.suppress(InvalidAudio):
        assert audio_bytes("audio", value)


def as_a_form_reads_it(value: str) -> str:
    """Unescaped in `curl -d`."""
    return dict(parse_qsl(f"audio={value}"))["audio"]


@given(st.binary(min_size=30, max_size=400), st.booleans())
def test_plus_signs_that_a_form_turned_into_spaces_are_restored_or_refused(data: bytes, is_uri: bool) -> None:
    encoded = ("data:audio/x+wav;base64," if is_uri else "") + base64.b64encode(b"RIFF" + data).decode()
    with contextlib.suppress(InvalidAudio):
        assert audio_bytes("audio", as_a_form_reads_it(encoded)) == b"RIFF" + data


def test_a_recording_in_an_unescaped_form_is_heard_as_it_was_sent() -> None:
    random = Random(7)
    for num_bytes in range(3000, 3060):
        data = b"RIFF" + random.randbytes(num_bytes)
        for encoded in (base64.b64encode(data).decode(), base64.encodebytes(data).decode()):
            assert audio_bytes("audio", as_a_form_reads_it(encoded)) == data
        assert audio_bytes("audio", as_a_form_reads_it(base64.b64encode(data).decode().rstrip("="))) == data


@pytest.mark.parametrize("line_chars", [4, 60, 64, 76])
@pytest.mark.parametrize("between", [" ", "\n  ", " \r\n"], ids=ascii)
def test_lines_that_are_parted_by_spaces_are_joined(line_chars: int, between: str) -> None:
    data = b"RIFF" + Random(line_chars).randbytes(500)
    encoded = base64.b64encode(data).decode()
    lines = [encoded[start : start + line_chars] for start in range(0, len(encoded), line_chars)]
    assert audio_bytes("audio", between.join(lines)) == data


@pytest.mark.parametrize("value", ["QUI ", "QUJDQUJD QUI", "QUJD QUJ QUJD", "-_-_ -_- _"], ids=ascii)
def test_spaces_that_may_have_been_plus_signs_are_refused_with_the_remedy(value: str) -> None:
    with pytest.raises(InvalidAudio, match="plus signs: percent-encode the form"):
        audio_bytes("audio", value)


def test_base64_that_was_escaped_once_too_often_is_read() -> None:
    assert audio_bytes("audio", quote(STANDARD)) == DATA
