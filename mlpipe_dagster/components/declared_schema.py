"""The JSON Schema of what a `defs.yaml` may hold: the declaration's own, with templates allowed."""

from __future__ import annotations

from typing import Any

from model_declaration.declaration import ModelDeclaration

_TEMPLATE = r"\{[{%]"


def attributes_schema() -> dict[str, Any]:
    """Return the schema that `dg check yaml` judges a file's attributes by.

    A text may stand for each value, as it may be a template. Alternatives of different types become one
    schema with several types: of a 0 beside a minimum of 1, a validator then names the bound, and not only
    that the value fits none of the given schemas.
    """
    schema = ModelDeclaration.model_json_schema()
    # A model is called like its folder.
    for told_by_the_folder in ("name", "folder"):
        schema["properties"].pop(told_by_the_folder)
    schema["required"].remove("name")
    definitions = schema.pop("$defs")
    return {**_with_templates(schema, definitions), "type": "object"}


def _with_templates(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    alternatives = [_inlined(each, definitions) for each in schema.get("anyOf", [schema])]
    found = {name: member for each in [*alternatives, schema] for name, member in each.items()}
    if len(objects := [each for each in alternatives if "properties" in each]) > 1:
        # Which fields belong together, the declaration itself tells in words.
        found["properties"] = {
            name: member for each in objects for name, member in each["properties"].items()
        }
        found.pop("required", None)
    for name in ("$ref", "anyOf"):
        found.pop(name, None)
    found["type"] = list(dict.fromkeys([*(each["type"] for each in alternatives), "string"]))
    if "pattern" in found:
        found["pattern"] += f"|{_TEMPLATE}"
    if "items" in found:
        found["items"] = _with_templates(found["items"], definitions)
    if isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = _with_templates(found["additionalProperties"], definitions)
    if "properties" in found:
        found["properties"] = {
            name: _with_templates(member, definitions) for name, member in found["properties"].items()
        }
    if "enum" in found:
        # For an editor, which offers these values.
        found["anyOf"] = [{"enum": found.pop("enum")}, {"type": found.pop("type")}]
    return found


def _inlined(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
