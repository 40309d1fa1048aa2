"""The README's picture of the page: the demo voice speaks a scene of two speakers in it, in a real browser.

`CSM_DOCS_PICTURES=1` puts the picture into docs/images, where the README shows it.
"""

import io
import os
from pathlib import Path

import soundfile
from playwright.sync_api import expect

from tests.support.browser import chromium, opened
from tests.support.demo_server import DemoServer

SCENE = "0: Did you hear that?\n1: I heard it. It was the wind.\n0: Then who closed the door?"
SIZE = {"width": 1180, "height": 900}
PICTURE = Path(__file__).parents[3] / "docs" / "images" / "playground.png"


def test_the_page_speaks_the_demo_voice(server: DemoServer, tmp_path: Path) -> None:
    with chromium() as browser, opened(browser, server.url, viewport=SIZE) as page:
        expect(page.locator("#health")).to_contain_text("ready: demo (demo voice)")
        page.get_by_label("Text or scene").fill(SCENE)
        page.get_by_role("button", name="Speak", exact=True).click()
        expect(page.locator("#status")).to_contain_text("Spoken: ")
        page.get_by_label("Text or scene").blur()
        picture = page.screenshot()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download WAV").click()
        download.value.save_as(tmp_path / "page.wav")
    sound, rate = soundfile.read(io.BytesIO((tmp_path / "page.wav").read_bytes()))
    assert 2 < len(sound) / rate < 8
    assert len(picture) > 20_000, "a blank page compresses to less"
    if os.environ.get("CSM_DOCS_PICTURES"):
        PICTURE.write_bytes(picture)
