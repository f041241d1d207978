"""JSON: None, booleans, numbers, texts, and lists and dicts of them."""

from __future__ import annotations

import hashlib
import json
from math import isfinite
from typing import Any


class JsonValues:
    """Accepts only values that JSON restores unchanged: no tuples, no NaN, only texts as keys."""

    name = "json"

    def takes(self, value: Any) -> bool:
        """Tell whether JSON restores the value unchanged."""
        if value is None or type(value) in {bool, int, str}:
            return True
        if type(value) is float:
            return isfinite(value)
        if type(value) is list:
            return all(map(self.takes, value))
        return type(value) is dict and all(
            type(key) is str and self.takes(member) for key, member in value.items()
        )

    def save(self, value: Any) -> bytes:
        """Return the value as JSON; dicts keep their order."""
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()

    def load(self, content: bytes) -> Any:
        """Return the value from JSON."""
        return json.loads(content)

    def digest(self, content: bytes) -> str:
        """Return the SHA-256 of the value, which does not depend on the order of dicts."""
        canonical = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
