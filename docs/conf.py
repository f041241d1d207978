"""How `make docs` renders the documents as a site; `NAVIGATION` is the order that a reader finds them in.

The documents stay as the repository shows them. Links between them and to files of code work here as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from docutils.nodes import document
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

START = "README"
NAVIGATION = {
    "Start here": ("docs/start", "docs/concepts"),
    "Guides": (
        "docs/adding-a-model",
        "docs/bring-your-own-data",
        "docs/bring-your-own-library",
        "docs/bring-a-trained-model",
        "docs/scoring",
        "docs/delivering",
        "docs/publication",
        "docs/model-versions",
        "docs/operations",
        "docs/recovery",
    ),
    "Reference": (
        "docs/project",
        "docs/declaration",
        "docs/functions",
        "docs/cli",
        "docs/api",
        "docs/events",
        "docs/settings",
        "docs/errors",
        "docs/job-clients",
        "docs/limits",
    ),
    "Deployment": (
        "docs/local-stack",
        "docs/deployment",
        "docs/upgrading",
        "docs/costs",
        "docs/one-billion-rows",
    ),
    "How it works": ("docs/architecture", "docs/loading", "docs/bulk-import"),
    "Decisions": ("docs/adr/*",),
    "The project": ("CHANGELOG", "CONTRIBUTING"),
}

project = html_title = "mlpipe"
extensions = ["myst_parser"]
root_doc = START
source_suffix = {".md": "markdown"}
include_patterns = [f"{START}.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**"]
exclude_patterns = [".*", "build", "dist"]
# As deep as any heading: an anchor that no heading has is a fault.
myst_heading_anchors = 6
html_theme = "furo"
html_copy_source = False
html_show_copyright = False


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the navigation below the first page, which in the repository has none."""
    if page == START:
        for caption, pages in NAVIGATION.items():
            options = f":hidden:\n:glob:\n:caption: {caption}"
            source[0] += "\n```{toctree}\n" + "\n".join([options, "", *pages]) + "\n```\n"


def drop_links_to_folders(app: Sphinx, page: document) -> None:
    """Leave the text alone of each link to a folder of the repository: a site has no page of it."""
    beside = Path(page["source"]).parent
    for link in [*page.findall(pending_xref)]:
        folder = beside / link["reftarget"]
        if folder.is_dir() and folder.resolve().is_relative_to(app.srcdir):
            link.replace_self(link.children)


def add_entry(app: Sphinx, fault: Exception | None) -> None:
    """Let a server of files, or a person who opens the folder, find the first page by its usual name."""
    if fault is None:
        entry = Path(app.outdir, "index.html")
        entry.unlink(missing_ok=True)
        os.link(entry.with_name(f"{START}.html"), entry)


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", drop_links_to_folders)
    app.connect("build-finished", add_entry)
