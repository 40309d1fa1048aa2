"""Debian's chromium, with a microphone that beeps."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.system_packages import need

_FLAGS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    need("chromium")
    expect.set_options(timeout=30_000)  # the machine may be busy
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    """A page of its own. Fails at the end if a script failed, the policy blocked something, or it asked elsewhere."""
    with browser.new_context(**context) as made:
        page = made.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if "Security Policy" in message.text else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, f"blob:{url}")) else wrong.append(request.url),
        )
        page.goto(f"{url}/")
        yield page
        assert wrong == []
