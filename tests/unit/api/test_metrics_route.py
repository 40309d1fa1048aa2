"""Where Prometheus looks."""

from serve_app.api.app import build_api
from serve_app.settings import Settings
from tests.support import api_harness
from tests.support.speech import speech_service


async def metrics_text() -> str:
    return "# HELP ray_csm_x It.\n"


async def test_the_text_is_prometheus_own() -> None:
    app = build_api(speech_service(), Settings(), metrics_text)
    async with api_harness.client(app) as http:
        response = await http.get("/metrics")
    assert (response.status_code, response.text) == (200, "# HELP ray_csm_x It.\n")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_without_an_exporter_there_is_no_such_page() -> None:
    async with api_harness.client(api_harness.api()) as http:
        assert (await http.get("/metrics")).status_code == 404
