"""Text that others wrote, as one line that neither steers a terminal nor forges a line of a log."""

from __future__ import annotations


def escape_unprintable(text: str) -> str:
    r"""Return text with whatever is not printable escaped: an escape as `\x1b`, a line break as `\n`.

    Letters of all languages stay. Control characters, line breaks of every kind, marks that turn the
    direction of writing, and halves of surrogate pairs do not.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
