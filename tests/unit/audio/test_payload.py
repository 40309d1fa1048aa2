import base64
import contextlib

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
