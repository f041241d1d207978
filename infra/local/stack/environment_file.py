"""The `.env` file with the block of `mlpipe up`; shells and python-dotenv read the same values from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.local.supervision.stack_state import StackError, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BEGIN = "# >>> written by `mlpipe up`; your own lines belong outside this block"
_END = "# <<< written by `mlpipe up`"
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_VALUE = re.compile("'[^']*'|\"[^\"]*\"")


def write_environment_file(path: Path, values: Mapping[str, str]) -> None:
    """Write the block of values into the file, mode 0600, and keep every line outside it.

    Args:
        path: The file, which is created if it does not exist.
        values: The values by variable name (`[A-Z_][A-Z0-9_]*`).

    Raises:
        StackError: A name or value cannot be written, or the file lacks the block's first or last line.
    """
    block = "\n".join([_BEGIN, *(f"{name}={_quoted(name, value)}" for name, value in values.items()), _END])
    before, _, after = _parts(path)
    write_atomically(path, f"{before}{block}\n{after}")


def read_environment_file(path: Path) -> dict[str, str]:
    """Return the values of the block that `mlpipe up` wrote; empty if there is none.

    Raises:
        StackError: The file lacks the block's first or last line, or a line of the block is malformed.
    """
    values: dict[str, str] = {}
    for line in _parts(path)[1].splitlines():
        name, equals, quoted = line.partition("=")
        if not equals or not _NAME.fullmatch(name) or not _VALUE.fullmatch(quoted):
            raise StackError(
                f"{path} has an invalid line in the block of `mlpipe up`: {name}",
                remedy="Run `mlpipe up` again",
            )
        values[name] = quoted[1:-1]
    return values


def _parts(path: Path) -> tuple[str, str, str]:
    """Return the text before the block, the block, and the text after it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "", "", ""
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{path} cannot be read ({error})", remedy="Move it away and try again") from error
    if _BEGIN not in text and _END not in text:
        return (text if not text or text.endswith("\n") else f"{text}\n"), "", ""
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    block, end, after = rest.partition(f"{_END}\n")
    if not begin or not end:
        raise StackError(
            f"{path} has only one of the two lines that enclose the block of `mlpipe up`",
            remedy="Remove that line or restore the other, then try again",
        )
    return before, block, after


def _quoted(name: str, value: str) -> str:
    """Return the value quoted so that a shell and python-dotenv read it the same way."""
    if not _NAME.fullmatch(name):
        raise StackError(
            f"{name!r} cannot be a variable in .env", remedy="Use capitals, digits and underscores"
        )
    # In single quotes python-dotenv still expands ${...} and unescapes \\ and \'; a shell does neither.
    common = value.isprintable() and "${" not in value
    if common and "'" not in value and "\\\\" not in value and not value.endswith("\\"):
        return f"'{value}'"
    if common and not set(value) & set('"$`\\'):
        return f'"{value}"'
    raise StackError(
        f"a shell and python-dotenv would read the value of {name} differently",
        remedy="Choose a value without control characters, ${...} and backslashes before quotes",
    )
