"""schemathesis plays the OpenAPI document: no 5xx, no status and no body that the document does not name."""

from pathlib import Path

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.contract_server import Server, serving

CHECKS = (
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


EXAMPLES = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_the_server_does_what_its_description_says(server: Server) -> None:
    description = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    with httpx.Client(base_url=server.url, timeout=30) as http:
        job = http.post("/fal/queue/fal-ai/csm-1b", json={"scene": [{"text": "Hi.", "speaker_id": 0}]}).json()
        file_url = http.post("/fal/cdn/files/upload", content=b"abc").json()["access_url"]
    known = {"request_id": job["request_id"], "file_id": file_url.split("/")[-2]}
    played = 0
    for found in description.get_all_operations():
        play(found.ok(), {})
        play(found.ok(), known)
        played += 1
    assert played > 20


def test_every_example_is_answered_as_it_stands(server: Server) -> None:
    """ "Try it out" sends them."""
    server.decoder.go_on.set()
    num_sent = 0
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for path, operations in http.get("/openapi.json").json()["paths"].items():
            for method, operation in operations.items():
                bodies = operation.get("requestBody", {}).get("content", {})
                examples = [(kind, each) for kind in bodies for each in bodies[kind].get("examples", {}).values()]
                for kind, example in examples:
                    how = {"json" if "json" in kind else "data": example["value"]}
                    answer = http.request(method, path, **how)
                    assert answer.status_code < 300, (path, kind, answer.text)
                    num_sent += 1
    assert num_sent >= 6


def test_where_keys_are_needed_the_document_says_how_to_send_one(tmp_path: Path) -> None:
    with serving(tmp_path, needs_keys=True) as server:
        described = httpx.get(f"{server.url}/openapi.json").json()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert described["security"] == [{"key": []}]


def play(operation: schemathesis.APIOperation, known: dict[str, str]) -> None:
    """With ids that nobody knows, or with those that are `known`."""

    @EXAMPLES
    @given(operation.as_strategy())
    def example(case: schemathesis.Case) -> None:
        case.path_parameters.update({name: value for name, value in known.items() if name in case.path_parameters})
        case.validate_response(case.call(timeout=30), checks=CHECKS)

    example()
