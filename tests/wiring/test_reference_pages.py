"""The pages of settings, errors and events list what the code has, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from inspect import getmembers, isclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api_lambda import problems
from api_lambda.settings import Settings as ApiSettings
from glue_scripts import errors as load_errors
from mlpipe_dagster.cli import main as command_line
from mlpipe_dagster.costs import Prices
from mlpipe_dagster.done_files.done_file_queue import done_file_key
from mlpipe_dagster.job_clients import job_errors
from mlpipe_dagster.publication import publisher
from mlpipe_dagster.settings import Settings
from mlpipe_dagster.versions.model_events_queue import event_target
from prediction_contract.registry.automatic_publication import AUTOMATIC_ONLY_CONDITIONS
from prediction_contract.rows.row_contract import REASONS

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    *("mlpipe", "mlpipe_dagster", "model_declaration", "prediction_batches", "prediction_contract"),
    *("api_lambda", "aws_wire", "glue_scripts", "infra", "sagemaker_scripts"),
)
_VARIABLE = re.compile("(?:MLPIPE|SNOWFLAKE|DAGSTER|AWS|XDG)_[A-Z0-9_]+")
_OWN_VARIABLE = re.compile("MLPIPE_[A-Z0-9_]*[A-Z0-9]")
# Markers of the local stack's own processes, and variables that only people and tests read from `.env`.
_NOT_READ_AS_SETTINGS = {"MLPIPE_LOCAL_STACK", "MLPIPE_LOCAL_ROLE"}
_ONLY_WRITTEN = {"MLPIPE_REGISTRY_TABLE", "MLPIPE_LOAD_JOB", "MLPIPE_TOKEN_CLIENT_ID"}
_DEPLOYMENT = {"MLPIPE_STAGE": "prod", "MLPIPE_ACCOUNT_ID": "444455556666", "AWS_REGION": "us-east-1"}


class RecordedVariables(dict[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, **variables: str) -> None:
        super().__init__(variables)
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a variable's value and record its name."""
        self.read.add(name)
        return super().get(name, default)


def page(name: str) -> str:
    """Return a page's text."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Return the text below a second- or third-level heading, up to the next one."""
    [text] = re.findall(
        rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", page(name), re.MULTILINE | re.DOTALL
    )
    return str(text)


def first_cells(text: str, pattern: str) -> set[str]:
    """Return the code names in each row's first cell that match a pattern."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall("`([^`]+)`", cell) if re.fullmatch(pattern, name)}


def test_page_lists_dagster_variables() -> None:
    """The page lists exactly the variables that Dagster's settings read."""
    wanted = ("ACCOUNT", "USER", "DATABASE", "SCHEMA", "WAREHOUSE")
    variables = RecordedVariables(
        MLPIPE_STAGE="prod",
        MLPIPE_ACCOUNT_ID="444455556666",
        AWS_DEFAULT_REGION="us-east-1",
        MLPIPE_SAGEMAKER_IMAGE_REPOSITORY="repository",
        **{f"SNOWFLAKE_{name}": "x" for name in wanted},
    )
    Settings.from_environment(variables)
    assert first_cells(section("settings", "Dagster and `mlpipe`"), _VARIABLE.pattern) == variables.read


def test_page_lists_prices() -> None:
    """Each price is listed with its variable and default."""
    rows = re.findall(r"^\| `MLPIPE_PRICE_([A-Z0-9_]+)` \| ([0-9.]+) \|", page("settings"), re.MULTILINE)
    prices = {
        field.name: getattr(Prices(), field.name) for field in fields(Prices) if field.name != "machines"
    }
    machines = {name.replace(".", "_"): price for name, price in Prices().machines}
    assert {name.lower(): float(price) for name, price in rows} == prices | machines


def test_page_lists_api_variables() -> None:
    """The page lists exactly the variables that the API's function reads."""
    variables = RecordedVariables(
        **_DEPLOYMENT,
        AWS_ACCESS_KEY_ID="id",
        AWS_SECRET_ACCESS_KEY="secret",
        MLPIPE_TOKEN_ISSUER="https://issuer.example.com",
        MLPIPE_JWKS_URL="https://issuer.example.com/keys",
        MLPIPE_TOKEN_CLIENT_IDS="client",
    )
    ApiSettings.from_environment(variables)
    assert first_cells(section("settings", "The API's function"), _VARIABLE.pattern) == variables.read


def variables_in_code() -> Iterator[str]:
    """Yield the platform's own variables named in product code and YAML files."""
    for folder in PRODUCT:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix == ".py":
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield from filter(_OWN_VARIABLE.fullmatch, [node.value])
            elif path.suffix == ".yaml":
                yield from re.findall("env: ([A-Z_]+)", path.read_text(encoding="utf-8"))


def test_page_lists_all_variables_in_code() -> None:
    """Every platform variable that the code names is explained, and no other is."""
    listed = first_cells(page("settings"), _VARIABLE.pattern)
    named = set(variables_in_code())
    assert named - listed == _NOT_READ_AS_SETTINGS | _ONLY_WRITTEN
    own = {name for name in listed if name.startswith("MLPIPE_") and not name.startswith("MLPIPE_PRICE_")}
    assert own - named == set()


def test_page_lists_api_problems() -> None:
    """Clients rely on each problem's kind and status."""
    rows = re.findall(r"^\| ([0-9]+) \| (.+?) \|", section("errors", "API"), re.MULTILINE)
    listed = {(int(status), kind) for status, kinds in rows for kind in re.findall("`([a-z-]+)`", kinds)}
    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Problem)]
    assert listed == {(kind.status, kind.kind) for kind in kinds}


def test_page_lists_errors_of_loads_and_jobs() -> None:
    """Glue and Dagster show these error names."""
    for heading, module in (("Loads", load_errors), ("Jobs in Dagster", job_errors)):
        own = {name for name, each in getmembers(module, isclass) if each.__module__ == module.__name__}
        assert first_cells(section("errors", heading), "[A-Za-z]+Error") == own


def test_page_lists_quarantine_reasons() -> None:
    """Every reason for a refused row is listed."""
    assert first_cells(section("errors", "Refused rows"), "[a-z_]+") == REASONS


def test_page_lists_publication_conditions() -> None:
    """Dagster shows the condition's name when a batch is not published automatically."""
    source = Path(publisher.__file__).read_text(encoding="utf-8")
    of_modes = set(re.findall('condition="([a-z_]+)"', source))
    assert of_modes
    listed = first_cells(section("errors", "Batches that are not published"), "[a-z_]+")
    assert listed == AUTOMATIC_ONLY_CONDITIONS | of_modes


def test_page_lists_exit_statuses() -> None:
    """Scripts that call `mlpipe` rely on them."""
    rows = re.findall(r"^\| ([0-9]+) \|", section("errors", "Exit statuses of `mlpipe`"), re.MULTILINE)
    assert [int(status) for status in rows] == [0, 1, 2, command_line._INTERRUPTED]


def detail_types(template: Any) -> Iterator[tuple[str, str]]:
    """Yield source and detail type of every event rule in a template."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Events::Rule":
            pattern = resource["Properties"]["EventPattern"]
            [source] = pattern["source"]
            for name in pattern["detail-type"]:
                yield source, name


def test_page_lists_events_of_all_rules(templates: Templates) -> None:
    """Every event that a stage's rules match is listed."""
    taken = {
        each
        for stack in ("data", "observability")
        for each in detail_types(templates.template("prod", stack))
    }
    rows = re.findall(r"^\| `([A-Z][^`]+)` \| `(aws\.[a-z0-9]+)` \|", page("events"), re.MULTILINE)
    assert {(source, name) for name, source in rows} == taken


def test_shown_events_are_understood_by_sensors() -> None:
    """The code finds the done file, the version and the pipeline in the page's examples."""
    shown = re.findall("```json\n(.*?)```", page("events"), re.DOTALL)
    done_file, package, execution = shown
    key = "done/2013-02-02/flight_delay/20130202T060000Z-0123abcd.json"
    assert done_file_key(done_file, json.loads(done_file)["detail"]["bucket"]["name"]) == key
    assert event_target(package) == ("mlpipe-prod-flight-delay", 7)
    assert event_target(execution) == ("mlpipe-prod-0retrain-flight-delay", None)
