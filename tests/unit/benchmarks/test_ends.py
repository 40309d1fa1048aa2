"""The load test asks how answers ended, once all have."""

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.common.records import Record
from benchmarks.load.ends import shares_ended


def record(request_id: str, level: float, error: str | None = None, warm_up: bool = False) -> Record:
    return Record(request_id, "sentence", level, warm_up, 0.0, 0.0, 200, error, 5, (), 1.0)


async def receipt(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    if name.startswith("forgotten"):
        return web.json_response({}, status=404)
    resumes = [{"attempt": 1 if "rescued" in name else 0, "num_lost": 1}] if "-" in name else []
    return web.json_response({"finish_reason": "runaway" if "cut" in name else "eos", "resumes": resumes})


async def test_the_share_is_of_whole_answers_that_needed_no_rescue() -> None:
    app = web.Application()
    app.router.add_get("/requests/{id}/receipt", receipt)
    records = [
        *(record(name, 1) for name in ("good", "good-after-a-lost-replica", "a-rescued-one", "cut")),
        record("cut", 1, error="cut_off"),
        record("cut", 1, warm_up=True),
        record("good", 8),
        record("forgotten", 9),
    ]
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        assert await shares_ended(http, str(server.make_url("")), records, "demo voice") == {1: 0.5, 8: 1.0}
        assert await shares_ended(http, str(server.make_url("")), records, "random") == {}
