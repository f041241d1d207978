"""Print the SQL that prepares Snowflake for a stage: `mlpipe snowflake-setup prod > setup.sql`.

Run the SQL once, and again after adding a model. Every statement is safe to repeat.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infra.stages import stage_in
from model_declaration.declared_models import deployable_names
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.stores.warehouse_stage import allowed_location

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prediction_contract.naming.resource_names import Deployment

FOLDER = Path(__file__).with_name("snowflake")
_NAME = re.compile(r"<% ([a-z_]+) %>")
_COMMENT = re.compile(r"^--.*$", re.MULTILINE)
# The text between the two marks is written once for each model.
_PER_MODEL = re.compile(r"^-- for each model\n(.*?)^-- end\n", re.DOTALL | re.MULTILINE)


def names(deployment: Deployment) -> dict[str, str]:
    """Return the values of the SQL files' placeholders, except those for models and retention."""
    database = deployment.snowflake_database
    return {
        "database": database,
        "schema": deployment.snowflake_schema,
        "warehouse": deployment.snowflake_warehouse,
        "role": deployment.snowflake_role,
        "reader_role": f"{database}_READER",
        "user": f"{database}_SERVICE",
        "share": f"{database}_LIVE",
        "integration": deployment.snowflake_integration,
        "access_role_arn": deployment.snowflake_access_role_arn,
        "allowed_location": allowed_location(deployment.data_bucket),
    }


def setup_sql(deployment: Deployment, models: Sequence[str], *, retention_days: int) -> str:
    """Return all statements in their order.

    Args:
        deployment: The deployment whose names are used.
        models: The models whose live views are shared.
        retention_days: How many days of Time Travel the database keeps.

    Raises:
        KeyError: A file has a placeholder without a value.
    """
    known = {**names(deployment), "retention_days": str(retention_days)}

    def for_each_model(found: re.Match[str]) -> str:
        block = found[1]
        return "".join(_filled(block, {**known, "live_view": f"{model.upper()}_LIVE"}) for model in models)

    texts = (path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.sql")))
    return "\n".join(_filled(_PER_MODEL.sub(for_each_model, text), known) for text in texts)


def statements(sql: str) -> list[str]:
    """Return the statements of a text, each on one line and without comments."""
    text = _COMMENT.sub("", sql)
    return [" ".join(each.split()) for each in text.split(";") if each.strip()]


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _NAME.sub(lambda found: known[found[1]], text)


def main(arguments: list[str] | None = None) -> int:
    """Print the statements of a stage."""
    parser = argparse.ArgumentParser(prog="python -m infra.snowflake_setup", description=__doc__)
    parser.add_argument("stage", help="a stage of stages.yaml")
    stage: str = parser.parse_args(arguments).stage
    try:
        project = Project.find(os.environ, Path.cwd())
        settings, models = stage_in(project.stages_file, stage), deployable_names(project.defs)
    except ContractError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    days = settings.snowflake_retention_days
    sys.stdout.write(setup_sql(settings.deployment(), models, retention_days=days))
    return 0


if __name__ == "__main__":
    sys.exit(main())
