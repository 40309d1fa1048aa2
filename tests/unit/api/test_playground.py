"""The page at `/`: what is served, by which rules, and that it refers to nothing elsewhere. tests/contract opens it."""

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from urllib.parse import urljoin

import httpx
import pytest

from serve_app.api.playground.router import PAGE_FILES
from tests.support.api_harness import api, client

PREFIX = "/csm"
REFERENCES = re.compile(r"""(?:href|src)="([^"]+)"|from "(\./[^"]+)"|\burl\(([^)]+)\)""")
ELSEWHERE = re.compile(r"""https?:|["'(]//|["'(]/\w""")
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client(api()) as http:
        yield http


async def test_the_page_is_html_under_a_strict_policy(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert not re.search(r"unsafe|\*|https?:|data:", answer.headers["content-security-policy"])
    assert not policy.keys() & {"script-src", "style-src", "connect-src"}, "they would replace default-src"
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text), (
        "the policy blocks inline code"
    )


async def test_every_file_beside_the_page_is_served_and_named_by_a_script_or_the_page(http: httpx.AsyncClient) -> None:
    named = {"/"}
    for path in PAGE_FILES:
        answer = await http.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        found = [next(filter(None, groups)) for groups in REFERENCES.findall(answer.text)]
        named |= {urljoin(path, reference) for reference in found}
    assert named - {"/docs"} == set(PAGE_FILES)
    assert len(PAGE_FILES) == len(list((files("serve_app.api.playground") / "page").iterdir()))


@pytest.mark.parametrize("path", PAGE_FILES)
async def test_a_file_refers_to_nothing_elsewhere(http: httpx.AsyncClient, path: str) -> None:
    text = (await http.get(path)).text.replace(SVG_NAMESPACE, "")
    assert ELSEWHERE.findall(text) == []


@pytest.mark.parametrize("path", PAGE_FILES)
async def test_head_has_the_headers_alone(http: httpx.AsyncClient, path: str) -> None:
    head, get = await http.head(path), await http.get(path)
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)


async def test_below_a_path_prefix_relative_addresses_lead_to_every_file() -> None:
    transport = httpx.ASGITransport(api(), root_path=PREFIX)
    async with httpx.AsyncClient(transport=transport, base_url="http://csm") as http:
        bare = await http.get(PREFIX)
        assert (bare.status_code, bare.headers["location"]) == (307, f"http://csm{PREFIX}/")
        page = await http.get(f"{PREFIX}/")
        for reference in re.findall(r'(?:href|src)="([^"]+)"', page.text):
            assert (await http.get(urljoin(f"{PREFIX}/", reference))).status_code == 200, reference


async def test_the_description_of_the_api_leaves_the_page_out(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert not set(paths) & set(PAGE_FILES)
