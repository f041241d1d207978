"""The commands and links in the documentation exist."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.wiring.documented_commands import DOCUMENTS, ROOT, name_of

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_MAKE = re.compile(r"(?:^|[\s(;&|])make((?: +(?:--?[a-z-]+|[A-Z_]+=\S+))*) +([a-z][a-z-]*)", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def make_targets() -> set[str]:
    """Return the targets that `make help` lists."""
    # `make` must not take the `make` that runs the tests for its parent.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


def named_targets(text: str) -> set[str]:
    """Return the targets of the `make` commands in a document's code."""
    code = "\n".join(block or inline for block, inline in _CODE.findall(text))
    return {target for _, target in _MAKE.findall(code)}


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(document: Path, link: str) -> bool:
    """Whether a relative link leads to an existing file in the project and an existing heading."""
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_make_command_exists(document: Path) -> None:
    """Every `make` target that a document names exists."""
    assert named_targets(document.read_text(encoding="utf-8")) - make_targets() == set()


def test_readme_names_the_main_targets() -> None:
    """The parser finds known targets, so the test above cannot pass by finding nothing."""
    assert named_targets((ROOT / "README.md").read_text(encoding="utf-8")) >= {
        "up",
        "status",
        "down",
        "test",
        "check",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_resolves(document: Path) -> None:
    """Links to files, folders and headings exist and stay within the project."""
    text = document.read_text(encoding="utf-8")
    links = [link for link in _LINK.findall(_FENCE.sub("", text)) if not _ADDRESS.match(link)]
    assert [link for link in links if not leads_somewhere(document, link)] == []
