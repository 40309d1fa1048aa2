import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import InvalidRequest
from serve_app.net.addresses import AllowedHosts
from serve_app.net.urls import checked_url

NOTHING = AllowedHosts([])
FIELD = "context.0.audio_url"


def refusal(url: str, allowed: AllowedHosts = NOTHING) -> str:
    with pytest.raises(InvalidRequest) as caught:
        checked_url(FIELD, url, allowed)
    assert caught.value.field == FIELD
    return caught.value.message


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com", "example.com"),
        ("HTTPS://EXAMPLE.com:443/a.wav?x=1#f", "example.com"),
        ("https://example.com:8443/", "example.com"),
        ("https://bücher.example/ä.wav", "xn--bcher-kva.example"),
        ("http://8.8.8.8/", "8.8.8.8"),
        ("http://[2606:2800::1]:8080/", "2606:2800::1"),
        ("http://a_b.example/", "a_b.example"),
        ("https://7.example/", "7.example"),
        ("https://storage.example/" + "x" * 4000 + "?sig=%20", "storage.example"),
        ("http://localhost/", "localhost"),
    ],
)
def test_a_url_of_a_host_that_may_be_public_is_taken(url: str, host: str) -> None:
    assert checked_url(FIELD, url, NOTHING).raw_host.decode() == host


@pytest.mark.parametrize(
    "url",
    ["", "example.com/a.wav", "//example.com/x", "ftp://example.com/x", "file:///etc/passwd", "gopher://x/", "data:,x",
     "javascript:alert(1)", "unix:///var/run/docker.sock", "http+unix://x/", "ws://example.com", "mailto:a@b.c"],
)  # fmt: skip
def test_other_schemes_are_refused(url: str) -> None:
    assert refusal(url) == "must begin with http:// or https://"


@pytest.mark.parametrize(
    "url", ["http://user@example.com/", "http://user:hunter2@example.com/", "http://:@example.com/"]
)
def test_passwords_are_refused(url: str) -> None:
    assert "user name" in refusal(url) and "hunter2" not in refusal(url)


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1",
     "1.2.3.4.5", "0", "0x", "256.256.256.256", "example.com.", "127.0.0.1.", "localhost.", ".", "..", "a..b",
     "-a.example", "a-.example", "a,b", "*", "ex%61mple.com", "127.0.0.1%00.example.com", "[fe80::1%25eth0]",
     "[fe80::1%eth0]", "[::1", "[1.2.3.4]", "[v1.x]",
     "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "\u24d4xample.com", "exa\u00admple.com", "\u3002",
     "a" * 64 + ".example", ".".join(["a" * 60] * 5), "", "@", "a:80:80", "\ud800", "ex ample.com", "a\tb", "a\r\nb"],
    ids=ascii,
)  # fmt: skip
def test_odd_hosts_are_refused(host: str) -> None:
    assert refusal(f"http://{host}/x")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[fd00:ec2::254]",
     "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127。0。0。1"],
    ids=ascii,
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_before_anything_is_asked(host: str) -> None:
    assert "not public" in refusal(f"http://{host}/x")
    assert "not public" in refusal(f"https://{host}:8443/x")


@pytest.mark.parametrize("port", ["0", "1", "22", "25", "81", "1023", "65536", "99999", "-1"])
def test_ports_of_other_services_are_refused(port: str) -> None:
    assert "port 80, 443" in refusal(f"http://example.com:{port}/")


def test_a_url_with_what_splits_a_request_is_refused() -> None:
    for after in (" HTTP/1.1\r\nX: y", "\nx", "\x00", " b", "\\x", "\ud800", "\u2028"):
        assert refusal(f"http://example.com/{after}")
    for url in (" http://example.com", "http://example.com\\@evil.example/"):
        assert refusal(url)


def test_a_very_long_url_is_refused() -> None:
    assert "8192 characters" in refusal("http://example.com/" + "x" * 9000)


def test_what_is_allowed_is_taken() -> None:
    allowed = AllowedHosts(["files.internal", "10.0.0.0/8"])
    for url in ("http://files.internal:81/", "http://10.0.0.1/", "http://[::ffff:10.0.0.1]:8000/"):
        checked_url(FIELD, url, allowed)
    assert refusal("http://127.0.0.1/", allowed)


@given(st.text() | st.from_regex(r"https?://[\w.:@\[\]%]{0,40}(/\S*)?", fullmatch=True))
def test_any_text_is_a_url_or_a_clear_refusal(text: str) -> None:
    try:
        url = checked_url(FIELD, text, NOTHING)
    except InvalidRequest as error:
        assert error.message
    else:
        assert url.scheme in ("http", "https") and url.raw_host
