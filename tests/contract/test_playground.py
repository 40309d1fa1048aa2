"""The page at `/`, in a real browser."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect

from serve_app.settings import LimitSettings
from tests.support.browser import chromium, opened
from tests.support.contract_server import Server, serving
from tests.support.prefix_proxy import below
from tests.support.sounds import speech_like
from tests.support.system_packages import need
from tests.support.waiting import until

SCENE = "0: One two.\n1: Three four five.\n0: Six."
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    server.decoder.go_on = threading.Event()
    with opened(browser, server.url) as page:
        yield page
    server.decoder.go_on.set()


def speak(page: Page, text: str) -> None:
    page.get_by_label("Text or scene").fill(text)
    page.get_by_role("button", name="Speak", exact=True).click()


def status(page: Page) -> Any:
    return expect(page.locator("#status"))


def saved(page: Page, folder: Path) -> bytes:
    """What the page lets its user download."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download WAV").click()
    path = folder / "page.wav"
    download.value.save_as(path)
    return path.read_bytes()


def test_a_scene_is_heard_while_it_is_made_and_is_what_the_api_answers(
    page: Page, server: Server, tmp_path: Path
) -> None:
    expect(page.locator("#health")).to_contain_text("ready: fake (trained) on cpu")
    page.get_by_label("Text or scene").fill(f"{SCENE}\n1: waitforever")
    page.keyboard.press("Control+Enter")
    status(page).to_have_text("Speaking …")
    # All that was made is heard, and then missed, while the last turn still runs.
    expect(page.locator("#underruns")).to_have_text(re.compile("^[1-9]"))
    expect(page.locator("#buffer")).to_have_text("0.00 s")
    assert server.decoder.num_open == 1
    server.decoder.go_on.set()
    status(page).to_contain_text("Spoken: ")
    turns = page.get_by_role("list", name="Turns").get_by_role("listitem")
    expect(turns).to_have_text(
        [
            "0.00 s, speaker 0: One two.",
            "0.16 s, speaker 1: Three four five.",
            "0.40 s, speaker 0: Six.",
            "0.48 s, speaker 1: waitforever",
        ]
    )

    seed = int(page.locator("#used-seed").inner_text())
    asked = [(request.text, request.speaker, request.sampling.seed) for request in server.decoder.requests[-4:]]
    turns = [
        {"text": text, "speaker": speaker}
        for text, speaker in (("One two.", 0), ("Three four five.", 1), ("Six.", 0), ("waitforever", 1))
    ]
    answer = httpx.post(f"{server.url}/generate", json={"scene": turns, "seed": seed})
    assert saved(page, tmp_path) == answer.content
    again = [(request.text, request.speaker, request.sampling.seed) for request in server.decoder.requests[-4:]]
    assert again == asked


def test_another_format_is_the_same_speech(page: Page, tmp_path: Path) -> None:
    speak(page, "One two.")
    status(page).to_contain_text("Spoken: ")
    page.get_by_label("Other format").select_option("flac")
    with page.expect_download() as download:
        page.get_by_role("button", name="Speak again into a file").click()
    download.value.save_as(tmp_path / "page.flac")
    samples, rate = soundfile.read(tmp_path / "page.flac", dtype="int16")
    assert (samples.tobytes(), rate) == (saved(page, tmp_path)[44:], 24_000)


def test_queue_and_replicas_are_shown_where_the_server_tells(page: Page) -> None:
    expect(page.locator("#load")).to_be_hidden()
    metrics = """# HELP csm_engine_running a\ncsm_engine_running{replica="a"} 2.0\ncsm_engine_running{replica="b"} 1.0
csm_engine_waiting{replica="a"} 4.0\ncsm_engine_capacity{replica="a"} 8.0\ncsm_engine_capacity{replica="b"} 8.0
csm_jobs_queued{replica="c"} 5.0\ncsm_jobs_queued{replica="d"} 5.0\n"""
    page.route("**/metrics", lambda route: route.fulfill(body=metrics, content_type="text/plain"))
    page.reload()
    expect(page.locator("#load")).to_have_text("2 generators: 3 of 16 slots taken, 4 waiting. Jobs queued: 5.")


def test_it_works_below_a_path_prefix_behind_a_proxy(browser: Browser, server: Server, tmp_path: Path) -> None:
    with below("/speech", server.url) as address, opened(browser, address) as page:
        expect(page.locator("#health")).to_contain_text("ready: ")
        speak(page, SCENE)
        status(page).to_contain_text("Spoken: ")
        assert len(saved(page, tmp_path)) == 44 + 6 * 3840
        assert f"{address}/generate" in page.locator("#code").inner_text()


def test_stop_cancels_and_keeps_what_came(page: Page, server: Server, tmp_path: Path) -> None:
    speak(page, "One two waitforever")
    expect(page.locator("#length")).to_have_text("0.24 s")
    page.keyboard.press("Escape")
    status(page).to_have_text("Stopped after 0.24 s.")
    until(lambda: not server.decoder.num_open, "the server cancels")
    assert len(saved(page, tmp_path)) == 44 + 3 * 3840


ERRORS = [
    ("Hi.", "Temperature", "9", "Temperature", "5"),
    ("Hi.", "Seed", "by chance", "Seed", "must be an integer"),
    ("", "Seed", "", "Text or scene", "is empty"),
    ("0: Hi.\n1:\n0: Bye.", "Seed", "", "Text or scene", "Turn 2: is empty"),
]


def test_an_error_stands_at_its_field(page: Page) -> None:
    page.locator("summary").click()
    for text, setting, value, field, said in ERRORS:
        page.get_by_label(setting).fill(value)
        speak(page, text)
        expect(page.get_by_role("alert")).to_contain_text(said)
        marked = page.get_by_label(field, exact=True)
        expect(marked).to_have_attribute("aria-invalid", "true")
        expect(marked).to_have_accessible_description(re.compile(re.escape(said)))
        expect(marked).to_be_focused()
        page.get_by_label(setting).fill("")
    speak(page, "Hi.")
    status(page).to_contain_text("Spoken: ")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_clips_that_are_too_large_together_are_refused_before_they_are_sent(browser: Browser, tmp_path: Path) -> None:
    clip = tmp_path / "large.wav"
    clip.write_bytes(bytes(5000))
    with (
        serving(tmp_path, limits=LimitSettings(max_body_bytes=4096)) as server,
        opened(browser, server.url) as page,
    ):
        expect(page.locator("#health")).to_contain_text("ready: ")
        page.get_by_label("Add files").set_input_files(clip)
        speak(page, "Hi.")
        expect(page.get_by_role("alert")).to_contain_text("Use fewer or shorter ones.")
        assert server.decoder.requests == []


def test_a_stream_that_breaks_off_is_an_error_and_leaves_what_came(page: Page) -> None:
    speak(page, "One two breakdown")
    expect(page.get_by_role("alert")).to_contain_text("The stream broke off after 0.24 s.")
    expect(page.get_by_role("link", name="Download WAV")).to_be_visible()


def test_a_recording_from_the_microphone_becomes_context(page: Page, server: Server) -> None:
    heard = len(server.encoder.clips)
    page.get_by_role("button", name="Record").click()
    # Its beeps come once a second: one of them must be in it.
    expect(page.locator("#record-time")).to_have_text(re.compile(r"^(1\.[3-9]|[2-9]\.)"))
    page.get_by_role("button", name="Stop recording").click()
    expect(page.get_by_label("Words spoken in it")).to_be_visible()
    speak(page, "Hi.")
    expect(page.get_by_role("alert")).to_contain_text("transcript")
    page.get_by_label("Words spoken in it").fill("beep")
    page.get_by_label("Speaker").last.fill("7")
    speak(page, "Hi.")
    status(page).to_contain_text("Spoken: ")
    (clip,) = server.encoder.clips[heard:]
    assert len(clip) > 1.0 * 48_000
    context = server.decoder.requests[-1].context
    assert [(segment.text, segment.speaker) for segment in context] == [("beep", 7)]


def test_a_clip_is_kept_as_a_voice_and_chosen(page: Page, server: Server, tmp_path: Path) -> None:
    (tmp_path / "ann.wav").write_bytes(speech_like(4.0))
    page.get_by_label("Add files").set_input_files(tmp_path / "ann.wav")
    page.get_by_label("Words spoken in it").fill("These are the words.")
    page.get_by_role("button", name="Keep as a voice: ann.wav").click()
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("How the person").fill("I agree.")
    page.get_by_label("Who says so").fill(" ")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("consent")
    page.get_by_label("Who says so").fill("Ann Example")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.locator("#voice-status")).to_contain_text("Ann is kept.")
    expect(page.get_by_label("Words spoken in it")).to_have_count(0)
    page.reload()
    page.get_by_label("Kept voice").select_option("Ann")
    speak(page, "Hi.")
    status(page).to_contain_text("Spoken: ")
    assert [segment.text for segment in server.decoder.requests[-1].context] == ["These are the words."]
    for language in ("curl", "OpenAI", "fal"):
        page.get_by_label("Language").select_option(language)
        assert '"Ann"' in page.locator("#code").inner_text()
    page.get_by_label("Kept voice").select_option("")
    speak(page, "Hi.")
    until(lambda: not server.decoder.requests[-1].context, "the speaker's own voice speaks")
    httpx.delete(f"{server.url}/voices/Ann").raise_for_status()


PROGRAMS = {
    "curl": ("code.sh", "bash"),
    "Python": ("code.py", sys.executable),
    "JavaScript": ("code.mjs", "node"),
    "OpenAI": ("openai_code.py", sys.executable),
    "fal": ("fal_code.py", sys.executable),
}


def test_the_code_does_the_same(page: Page, server: Server, clip: Path, tmp_path: Path) -> None:
    need("node", "curl")
    text = """It's "$HOME" `id` \\ for 5 €."""
    page.get_by_label("Add files").set_input_files(clip)
    page.get_by_label("Words spoken in it").fill("a $tone")
    page.locator("summary").click()
    page.get_by_label("Spell out numbers").uncheck()
    speak(page, text)
    status(page).to_contain_text("Spoken: ")
    shown = server.decoder.requests[-1]
    heard = saved(page, tmp_path)
    for language, (name, program) in PROGRAMS.items():
        page.get_by_label("Language").select_option(language)
        (tmp_path / name).write_text(page.locator("#code").inner_text())
        done = subprocess.run((program, name), cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        sent = server.decoder.requests[-1]
        assert sent is not shown
        assert (sent.text, sent.context, sent.sampling) == (shown.text, shown.context, shown.sampling)
        assert (tmp_path / "speech.wav").read_bytes() == heard
        (tmp_path / "speech.wav").unlink()


def test_history_replays_with_the_seed_also_after_a_reload(page: Page, server: Server) -> None:
    speak(page, SCENE)
    status(page).to_contain_text("Spoken: ")
    seed = page.locator("#used-seed").inner_text()
    page.get_by_role("button", name="Play: ").click()
    status(page).to_have_text("Playing again.")
    page.reload()
    page.get_by_role("button", name="Speak again: ").click()
    status(page).to_contain_text("Spoken: ")
    expect(page.locator("#used-seed")).to_have_text(seed)
    page.get_by_role("button", name="Edit: ").last.click()
    expect(page.get_by_label("Text or scene")).to_have_value(SCENE)
    expect(page.get_by_label("Seed")).to_have_value(seed)
    num_asked = len(server.decoder.requests)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#history li")).to_have_count(3)
    assert {request.sampling.seed for request in server.decoder.requests[num_asked - 3 : num_asked]} == {
        request.sampling.seed for request in server.decoder.requests[num_asked:]
    }


def test_a_key_is_asked_for_and_kept_for_the_session_only(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path, needs_keys=True) as server, opened(browser, server.url) as page:
        _, key = server.keys.create("page")
        expect(page.locator("#health")).to_have_text("ready, needs a key")
        speak(page, "Hi.")
        page.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-reason")).to_contain_text("this is not a key")
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use this key").click()
        status(page).to_contain_text("Spoken: ")
        expect(page.locator("#health")).to_contain_text("ready: fake")
        assert "$CSM_KEY" in page.locator("#code").inner_text()
        assert key.rpartition(":")[2] not in page.content()
        assert page.evaluate("[sessionStorage.getItem('csm-key'), localStorage.length, document.cookie]") == [
            key,
            0,
            "",
        ]


def test_it_survives_a_restart_of_the_server(browser: Browser, tmp_path: Path) -> None:
    with ExitStack() as first:
        server = first.enter_context(serving(tmp_path))
        with opened(browser, server.url) as page:
            speak(page, SCENE)
            status(page).to_contain_text("Spoken: ")
            first.close()
            page.get_by_role("button", name="Speak", exact=True).click()
            expect(page.get_by_role("alert")).to_have_text("The server does not answer. Is it running?")
            with serving(tmp_path, port=int(server.url.rpartition(":")[2])):
                page.get_by_role("button", name="Speak", exact=True).click()
                status(page).to_contain_text("Spoken: ")
                expect(page.locator("#history li")).to_have_count(2)


def test_on_a_phone_nothing_is_cut_off_and_axe_finds_nothing(
    browser: Browser, server: Server, node_folder: Path, clip: Path
) -> None:
    with opened(browser, server.url, viewport=PHONE) as page:
        page.get_by_label("Add files").set_input_files(clip)
        page.get_by_label("Words spoken in it").fill("a tone")
        speak(page, f"{SCENE}\n2: Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft")
        status(page).to_contain_text("Spoken: ")
        page.locator("summary").click()
        page.get_by_label("Temperature").fill("9")
        page.get_by_role("button", name="Speak", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        axe = (node_folder / "node_modules/axe-core/axe.min.js").read_text()
        page.evaluate(f"() => {{ {axe} }}")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []
        for dialog in ("keep-dialog", "key-dialog"):
            page.evaluate(f"document.getElementById('{dialog}').showModal()")
            assert violations(page) == []
            page.evaluate(f"document.getElementById('{dialog}').close()")


def violations(page: Page) -> list[Any]:
    found = page.evaluate("async () => (await axe.run()).violations")
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
