"""Schemas of bodies that routes read by themselves, which FastAPI therefore does not know."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

DOCS_ASSETS = "/docs-assets"
"""Where scripts and styles of the interactive reference are served: it works without the internet."""


def add_schemas(app: FastAPI, schemas: dict[str, dict[str, Any]]) -> None:
    """Put `schemas` beside those that FastAPI finds in `app`, for `$ref`s to point at."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        description = described()
        description.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return description

    app.openapi = openapi  # type: ignore[method-assign]  the way that FastAPI's documentation names


def add_keys(app: FastAPI) -> None:
    """Say that a key is needed, so that the interactive reference asks for one."""
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


def body_schemas(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The schema of a body and those of its parts, by name."""
    body = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {model.__name__: body, **body.pop("$defs", {})}
