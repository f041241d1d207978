"""Documents that other programs might have written, and Python terms that our errors must not contain."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OTHER_VALUES = (None, True, 7, "x", [], {}, [None], {"x": None})
_NO_JSON = (
    b"",
    b"{",
    b"{a: 1}",
    b"\xff\xfe{",
    b"\xef\xbb\xbf{}",
    b"\x1f\x8b\x08",
    b"NaN",
    b"[" * 10_000,
    b"1" * 5000,
    b"1e99999999999999999999",
)
# Words of the Python interpreter, which do not help people who operate batches.
PYTHON = re.compile(
    "Traceback|NoneType|(?:Key|Type|Value|Attribute|Index|Unicode|JSONDecode)Error|object is not|has no "
    "attribute|indices must|__init__|keyword argument|positional|subscriptable|iterable|invalid literal|"
    r"codec|Expecting |line \d+ column|<class|\bno (?:str|int|dict|list|bool)\b|\bb['\"]"
)


def other_documents() -> Iterator[bytes]:
    """Yield bytes that are not JSON, and JSON that no reader accepts."""
    yield from _NO_JSON
    for value in _OTHER_VALUES:
        yield json.dumps(value).encode()


def other_shapes(document: Any) -> Iterator[bytes]:
    """Yield a document with each of its members missing or replaced by other values, at any depth."""
    yield from (json.dumps(changed).encode() for changed in _changed(document))


def refusals(parse: Callable[[bytes], object], document: Any, refusal: type[Exception]) -> list[str]:
    """Return a reader's errors for invalid documents, and assert that none contains Python terms."""
    messages = []
    for content in (*other_documents(), *other_shapes(document)):
        try:
            parse(content)
        except refusal as error:
            messages.append(str(error))
    assert not [message for message in messages if PYTHON.search(message)]
    return messages


def _changed(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        for name, member in document.items():
            yield {other: value for other, value in document.items() if other != name}
            yield from ({**document, name: value} for value in (*_OTHER_VALUES, *_changed(member)))
    elif isinstance(document, list) and document:
        yield from ([changed] for changed in (*_OTHER_VALUES, *_changed(document[0])))
