"""The documentation site contains every page, and broken links fail its build."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "docs" / "conf.py"
PAGES = {
    "README",
    "CHANGELOG",
    "CONTRIBUTING",
    *(path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")),
}
# What a browser loads with a page, as opposed to links that a reader follows.
_FETCHED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
_FETCHED_BY_STYLE = re.compile(r"(?:url\(|@import )[\"']?([a-z]+:)?//")


def navigation() -> list[str]:
    """Return the pages in the navigation, with patterns expanded."""
    body = ast.parse(CONFIGURATION.read_text(encoding="utf-8")).body
    [named] = [
        ast.literal_eval(each.value)
        for each in body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "NAVIGATION"
    ]
    found = [ROOT.glob(f"{pattern}.md") for patterns in named.values() for pattern in patterns]
    return [path.relative_to(ROOT).with_suffix("").as_posix() for paths in found for path in paths]


def test_navigation_lists_each_page_once() -> None:
    """Readers find every page; the README is the first one."""
    assert Counter(["README", *navigation()]) == Counter(PAGES)


@pytest.mark.slow
def test_site_has_all_pages_and_works_offline(tmp_path: Path) -> None:
    """Pages, search and styles load nothing from other servers."""
    site = tmp_path / "site"
    command = ["make", "--no-print-directory", "docs", f"SITE={site}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{site}/index.html"
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for page in PAGES:
        content = (site / f"{page}.html").read_text(encoding="utf-8")
        fetched = _FETCHED.findall(content)
        assert fetched
        assert [address for address in fetched if "//" in address] == []
        assert f'"{page}"' in index
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not any(_FETCHED_BY_STYLE.search(style) for style in styles)


@pytest.mark.slow
def test_broken_link_or_unlisted_page_fails_the_build(tmp_path: Path) -> None:
    """Missing pages, missing headings and pages outside the navigation are reported with their place."""
    (tmp_path / "docs").mkdir()
    shutil.copy(CONFIGURATION, tmp_path / "docs")
    (tmp_path / "README.md").write_text(
        "# Start\n[gone](docs/gone.md)\n\n[place](docs/cli.md#gone) [here](docs)\n"
    )
    (tmp_path / "docs" / "cli.md").write_text("# Commands\n")
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n")
    program = [str(ROOT / ".venv-docs" / "bin" / "python"), "-m", "sphinx", "--quiet", "--fail-on-warning"]
    done = subprocess.run(
        [*program, "-c", "docs", ".", "site"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    for place, fault in (
        ("README.md:2", "'docs/gone.md'"),
        ("README.md:4", "'gone'"),
        ("docs/lost.md", "isn't included in any toctree"),
    ):
        assert any(place in line and fault in line for line in done.stderr.splitlines()), done.stderr
    assert "'docs'" not in done.stderr
