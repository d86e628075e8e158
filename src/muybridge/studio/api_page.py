"""The OpenAPI description of the server as a page without scripts, for people.

Input: the description. Output: HTML; names and texts are escaped by the template, and the style sheet is a file of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

_METHODS = ("get", "put", "post", "delete")


@dataclass(frozen=True)
class _Operation:
    """A row of the page."""

    method: str
    path: str
    summary: str
    parameters: tuple[tuple[str, str, str, bool], ...]  # name, type, description, required
    body: str
    answers: tuple[tuple[str, str], ...]


def render_api_page(description: Mapping[str, Any]) -> str:
    """The page of an OpenAPI description, its operations by tag and its schemas."""
    operations: dict[str, list[_Operation]] = {}
    for path, methods in description["paths"].items():
        for method in (name for name in _METHODS if name in methods):
            operation = methods[method]
            operations.setdefault(operation.get("tags", ["other"])[0], []).append(_describe(method, path, operation))
    schemas = {
        name: [
            (key, _describe_type(field), key in schema.get("required", ()))
            for key, field in schema["properties"].items()
        ]
        for name, schema in sorted(description.get("components", {}).get("schemas", {}).items())
        if "properties" in schema
    }
    return _get_template().render(info=description["info"], operations=operations, schemas=schemas)


def _describe(method: str, path: str, operation: Mapping[str, Any]) -> _Operation:
    parameters = tuple(
        (one["name"], _describe_type(one["schema"]), one.get("description", ""), one.get("required", False))
        for one in operation.get("parameters", ())
    )
    content = operation.get("requestBody", {}).get("content", {})
    body = "; ".join(f"{media_type}: {_describe_type(one.get('schema', {}))}" for media_type, one in content.items())
    answers = tuple((status, _describe_answer(one)) for status, one in operation["responses"].items())
    return _Operation(method.upper(), path, operation.get("description", ""), parameters, body, answers)


def _describe_answer(answer: Mapping[str, Any]) -> str:
    types = [
        _describe_type(one["schema"]) or media for media, one in answer.get("content", {}).items() if one.get("schema")
    ]
    return ", ".join(types or answer.get("content", {}) or [answer.get("description", "")])


def _describe_type(schema: Mapping[str, Any]) -> str:
    """A type in a few words: `list of Video`, `integer from 1 to 4000`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_describe_type(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {_describe_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and "properties" in schema:
        return "{" + ", ".join(schema["properties"]) + "}"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([str(schema.get("type", "")), *bounds]).strip()


@cache
def _get_template() -> Template:
    loader = PackageLoader("muybridge.studio", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("api.html")
