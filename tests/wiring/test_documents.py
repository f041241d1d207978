"""What the documents promise exists: the commands they name and the files they link to."""

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
    # A make that runs the tests must not be taken for this one's parent.
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
    """Return the targets of the `make` commands that stand in a document's code."""
    code = "\n".join(block or inline for block, inline in _CODE.findall(text))
    return {target for _, target in _MAKE.findall(code)}


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(document: Path, link: str) -> bool:
    """Tell whether a relative link of a document names what is in the project, its heading included."""
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_make_command_exists(document: Path) -> None:
    """A reader who types what a document says gets a target, not an error."""
    assert named_targets(document.read_text(encoding="utf-8")) - make_targets() == set()


def test_the_readme_names_every_target_for_users() -> None:
    """The README's commands are found, so that the test above is not one of nothing."""
    assert named_targets((ROOT / "README.md").read_text(encoding="utf-8")) >= {
        "up",
        "status",
        "down",
        "test",
        "check",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    """Links to files, folders and headings within the project resolve, and stay within it."""
    text = document.read_text(encoding="utf-8")
    links = [link for link in _LINK.findall(_FENCE.sub("", text)) if not _ADDRESS.match(link)]
    assert [link for link in links if not leads_somewhere(document, link)] == []
