"""The code location: every model found under `defs/`."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions of every `defs.yaml` below this package.

    `load_from_defs_folder` would import every installed integration first, pandas and Snowpark among
    them; building the component tree directly loads four times faster.
    """
    here = Path(__file__).parent
    return dg.ComponentTree.for_project(here).build_defs(here / "defs")
