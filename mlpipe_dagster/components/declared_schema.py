"""The JSON Schema of a `defs.yaml`: the declaration's schema, with templates allowed."""

from __future__ import annotations

from typing import Any

from model_declaration.declaration import ModelDeclaration

_TEMPLATE = r"\{[{%]"


def attributes_schema() -> dict[str, Any]:
    """Return the schema that `dg check yaml` applies to a file's attributes.

    Each value may also be a string, because it may be a template. Alternatives of different types become one
    schema with several types, so that a validator names the violated constraint, for example a minimum,
    instead of only saying that no alternative matches.
    """
    schema = ModelDeclaration.model_json_schema()
    # A model is named after its folder.
    for given_by_folder in ("name", "folder"):
        schema["properties"].pop(given_by_folder)
    schema["required"].remove("name")
    definitions = schema.pop("$defs")
    return {**_with_templates(schema, definitions), "type": "object"}


def _with_templates(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    alternatives = [_inlined(each, definitions) for each in schema.get("anyOf", [schema])]
    found = {name: member for each in [*alternatives, schema] for name, member in each.items()}
    if len(objects := [each for each in alternatives if "properties" in each]) > 1:
        # The declaration itself checks which fields belong together, and explains it in words.
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
        # Kept for editors, which suggest these values.
        found["anyOf"] = [{"enum": found.pop("enum")}, {"type": found.pop("type")}]
    return found


def _inlined(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
