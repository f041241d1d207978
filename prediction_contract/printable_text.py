"""Escapes foreign text so that it stays on one line and cannot control a terminal or forge a log line."""

from __future__ import annotations


def escape_unprintable(text: str) -> str:
    r"""Return the text with unprintable characters escaped, for example `\x1b` or `\n`.

    Letters of all languages are kept. Control characters, line breaks, marks of writing direction and lone
    surrogates are escaped.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
