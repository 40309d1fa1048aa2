"""Adds to the OpenAPI schema what FastAPI cannot know: bodies that routes read by themselves, and keys."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

DOCS_ASSETS = "/docs-assets"
"""Scripts and styles of the interactive reference are served here, so that it works offline."""


def add_schemas(app: FastAPI, schemas: dict[str, dict[str, Any]]) -> None:
    """Add `schemas` to those that FastAPI finds in `app`, as targets of `$ref`."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        description = described()
        description.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return description

    app.openapi = openapi  # type: ignore[method-assign]  as FastAPI's documentation recommends


def add_keys(app: FastAPI) -> None:
    """Declare that a key is needed, so that the interactive reference asks for one."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        description = described()
        scheme = {"type": "http", "scheme": "bearer", "description": "`ID:SECRET`; `Authorization: Key` works too."}
        description.setdefault("components", {})["securitySchemes"] = {"key": scheme}
        description["security"] = [{"key": []}]
        return description

    app.openapi = openapi  # type: ignore[method-assign]  as above


def schema_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def described_body(name: str, **examples: Any) -> dict[str, Any]:
    """What a body of one media type is: a schema by name, and examples that "Try it out" sends as they are."""
    return {"schema": schema_ref(name), "examples": {title: {"value": value} for title, value in examples.items()}}


def body_schemas(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The schema of a body and those of its parts, by name."""
    body = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {model.__name__: body, **body.pop("$defs", {})}
