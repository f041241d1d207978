"""Validates requests and answers against all constraints of botocore's service models.

botocore's `ParamValidator` checks types, required members and lower bounds, but not enums, patterns and upper
bounds. AWS checks all of them, so this module does too.
"""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from functools import lru_cache
from typing import Any

from botocore.validate import ParamValidator

# AWS writes characters beyond the basic plane as surrogate pairs, which Python's patterns do not support.
_SURROGATES = "\\uD800\\uDC00-\\uDBFF\\uDFFF"
_SHOWN_CHARACTERS = 200
_ASTRAL = "\\U00010000-\\U0010FFFF"
# Unicode classes, which Python's patterns do not support. The models use them only between brackets.
_CLASS = re.compile(r"\\p\{(\w+)\}")
_JAVA_ALNUM = "0-9A-Za-z"
# A quantifier after the end anchor, by which some models repeat the length limit. It has no effect.
_REPEATED_END = re.compile(r"\$\{\d+,\d+\}$")


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a model's pattern, which is in Java's syntax."""
    text = _REPEATED_END.sub("", pattern.replace(_SURROGATES, _ASTRAL))
    return re.compile(_CLASS.sub(lambda found: _characters(found[1]), text))


@lru_cache
def _characters(name: str) -> str:
    """Return the characters of a Unicode class, such as `L` for letters, as ranges of a pattern."""
    if name == "Alnum":
        return _JAVA_ALNUM
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(name))
    # In a run of consecutive codes, the difference of code and position is constant.
    runs = itertools.groupby(enumerate(codes), key=lambda item: item[1] - item[0])
    return "".join(_range([code for _, code in run]) for _, run in runs)


def _range(codes: list[int]) -> str:
    return f"\\U{codes[0]:08x}-\\U{codes[-1]:08x}"


def violations(shape: Any, value: Any) -> list[str]:
    """Return the constraints that a value violates, worded like AWS's validation errors."""
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        return [line.strip() for line in report.generate_report().splitlines()]
    return list(_walk(shape, value, path=""))


def _walk(shape: Any, value: Any, *, path: str) -> list[str]:
    found = _constraints(shape, value, path)
    kind = shape.type_name
    if kind == "structure":
        for name, member in value.items():
            found += _walk(shape.members[name], member, path=_join(path, name))
    elif kind == "list":
        for index, member in enumerate(value, start=1):
            found += _walk(shape.member, member, path=f"{path}.{index}.member")
    elif kind == "map":
        for key, member in value.items():
            found += _walk(shape.key, key, path=f"{path}.key")
            found += _walk(shape.value, member, path=f"{path}.{key}")
    return found


def _join(path: str, name: str) -> str:
    member = name[:1].lower() + name[1:]
    return f"{path}.{member}" if path else member


def _constraints(shape: Any, value: Any, path: str) -> list[str]:
    rules = shape.metadata
    found = []
    if isinstance(value, str):
        found += _text_constraints(rules, value)
    sized = shape.type_name in {"string", "list", "map", "blob"}
    if shape.type_name in {"structure", "boolean", "timestamp"}:
        return found
    size = len(value) if sized else value
    noun = "length" if sized else "value"
    if "max" in rules and size > rules["max"]:
        found.append(f"Member must have {noun} less than or equal to {rules['max']}")
    if "min" in rules and size < rules["min"]:
        found.append(f"Member must have {noun} greater than or equal to {rules['min']}")
    return [
        f"Value '{str(value)[:_SHOWN_CHARACTERS]}' at '{path}' failed to satisfy constraint: {text}"
        for text in found
    ]


def _text_constraints(rules: dict[str, Any], value: str) -> list[str]:
    found = []
    if rules.get("enum") and value not in rules["enum"]:
        found.append(f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]")
    if rules.get("pattern") and _compiled(rules["pattern"]).fullmatch(value) is None:
        found.append(f"Member must satisfy regular expression pattern: {rules['pattern']}")
    return found
