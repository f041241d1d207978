"""The cost estimate follows from its prices and quantities, which match the code and the measurements."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api_lambda.request_log import RequestLog
from infra.cost_estimate import PAGE, SCALES, Sheet, SheetError, recomputed
from infra.definitions.api_definitions import FunctionDefinition, target_group
from infra.definitions.resource_definitions import data_bucket, load_job
from infra.packaging import PLATFORM
from mlpipe_dagster.costs import Prices
from mlpipe_dagster.publication.projection_sensor import COMPARE_ALL_EVERY
from mlpipe_dagster.regions.region_follower import MAX_REPLICA_LINES
from model_declaration.declaration_files import declaration_of
from model_declaration.lifecycle import Retention
from model_declaration.quality import Quality
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import OnlineItems
from tests.infra.example_stages import PROD
from tests.projects import EXAMPLE

_RESULTS = PLATFORM / "benchmarks" / "results"
_MEASURED = json.loads((_RESULTS / "load.json").read_text())
_SCORED = json.loads((_RESULTS / "score.json").read_text())["jobs"]
# A scheduled flight of 2013, whose probability has as many digits as a double can have.
_FLIGHT = {
    "entity_id": "AA-1141-JFK",
    "carrier": "AA",
    "flight_number": 1141,
    "origin": "JFK",
    "destination": "MIA",
    "scheduled_departure": datetime(2013, 2, 1, 10, 40, tzinfo=UTC),
    "distance_miles": 1089,
    "delay_probability": 0.23456789012345678,
    "expected_delay_minutes": Decimal("12.34"),
    "likely_late": False,
    "correction_minutes": Decimal("-0.57"),
}


@pytest.fixture(scope="module")
def page() -> str:
    """The cost page as committed."""
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sheet(page: str) -> Sheet:
    """The page's quantities, prices and results by name."""
    read = Sheet()
    recomputed(page, read)
    return read


def item_bytes() -> int:
    """Return the bytes that DynamoDB charges for one prediction's item: names and values in UTF-8."""
    schema = declaration_of("flight_delay", EXAMPLE.defs).prediction_schema
    row = prediction_line(row_contract(schema), _FLIGHT).row
    assert row is not None
    item = OnlineItems(schema).build(row, "20130201T060000Z-0123abcd", 2_000_000_000)
    return sum(len(name) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: dict[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "N":
        number = Decimal(content).normalize()
        digits = len(number.as_tuple().digits)
        return (digits + 1) // 2 + 1 + (number < 0)
    return len(content.encode()) if kind == "S" else 1


def test_every_result_follows_from_prices_and_quantities(page: str) -> None:
    """Run `python -m infra.cost_estimate --write` after a price, a quantity or a formula has changed."""
    assert recomputed(page) == page


def test_manually_changed_figure_is_found(page: str, sheet: Sheet) -> None:
    """A result, a sum or a price cannot be edited alone."""
    writes = f"{sheet.values['rows'][2] * sheet.values['days'][2] * 0.625 / 1e6:,.2f}"
    total = f"{sum(group[2] for group in sheet.groups.values()):,.2f}"
    for figure in (f" {writes} |", f" {total} |", "| 0.625 |"):
        assert figure in page
        altered = page.replace(figure, re.sub("[1-9]", "7", figure.replace("7", "8"), count=1), 1)
        assert recomputed(altered) != altered


def test_every_price_and_quantity_is_used(page: str, sheet: Sheet) -> None:
    """The tables hold no value that no formula uses."""
    formulas = [code for line in page.splitlines() for code in re.findall(r"\| `([^`]+)` \|", line[1:])]
    used = {name for formula in formulas for name in re.findall("[a-z_]+", formula)}
    assert set(sheet.values) - used == set()


def test_text_repeats_the_largest_costs(page: str) -> None:
    """The page's text gives idle costs and costs of 100 million predictions a day as in its tables."""

    def cost(name: str, *, scale: int = 0) -> float:
        (cells,) = (line.split("|") for line in page.splitlines() if line.startswith(f"| {name} |"))
        return float(cells[4 + scale].replace(",", ""))

    at_rds = cost("RDS with its standby") + cost("RDS storage")
    function_log = cost("the function's log, including its metrics", scale=3)
    balancers = cost("the internal load balancer") + cost("load balancers")
    prose = " ".join(page.split())
    for named in (
        f"Fargate {cost('Fargate: code location, web server, daemon'):.0f}",
        f"RDS with its standby {at_rds:.0f}",
        f"interface endpoints {cost('interface endpoints'):.0f}",
        f"NAT gateways {cost('NAT gateways with their addresses'):.0f}",
        f"the three load balancers {balancers:.0f}",
        f"warm environments {cost('warm environments'):.0f}",
        f"writes {cost('writes at home', scale=3):,.0f} and as much",
        f"to live there {cost('deletions by time to live in each further region', scale=3):,.0f}",
        f"items kept {cost('items kept, in every region', scale=3):,.0f}",
        f"recovery {cost('point-in-time recovery of them, in every region', scale=3):,.0f}",
        f"through the firewalls {cost('requests through them', scale=3):,.0f}",
        f"the function's log {function_log:,.0f}",
    ):
        assert named in prose, named


@pytest.mark.parametrize(
    "formula", ["rows +", "unheard_of * 2", "rows ** 2", "open(rows)", "'text'", "rows.real"]
)
def test_formula_allows_only_arithmetic(sheet: Sheet, formula: str) -> None:
    """A formula can neither call functions nor use names that are not on the page."""
    with pytest.raises(SheetError):
        sheet.evaluate(formula)


def test_prices_match_batch_cost_estimates(sheet: Sheet) -> None:
    """`mlpipe_dagster.costs` and the page use the same prices."""
    prices = Prices()
    for name, price in {
        "replicated": prices.dynamodb_million_writes,
        "dpu": prices.glue_dpu_hour,
        "credit": prices.snowflake_credit,
        "scoring_machine": prices.machine("ml.m5.xlarge"),
        "training_machine": prices.machine("ml.m5.2xlarge"),
    }.items():
        assert sheet.values[name] == [price] * SCALES, name
    assert prices.snowflake_credits_per_hour == 1
    shipped = declaration_of("flight_delay", EXAMPLE.defs)
    assert shipped.processing.instance_type == "ml.m5.xlarge"
    assert shipped.training_compute.instance_type == "ml.m5.2xlarge"


def test_quantities_match_settings_and_declarations(sheet: Sheet) -> None:
    """A size, limit or interval that changes in the code must also change on the page."""
    deployment, size = PROD.deployment(), PROD.dagster
    job, retention = load_job(deployment), Retention()
    function = FunctionDefinition("", "", {})
    assert size.database_class == "db.m7g.large"
    assert PROD.api.architecture == "aarch64"
    assert (PROD.api.warm_environments, PROD.api.most_warm_environments) == (4, 40)
    assert job.worker_type == "G.1X"
    assert Quality().verification(50_001) == "sample"
    assert MAX_REPLICA_LINES == 1_000_000
    assert target_group(deployment).health_check_seconds == 60
    for name, value in {
        "regions": len(PROD.regions),
        "zones": len(PROD.home.availability_zones),
        "items_days": retention.items_days,
        "superseded_days": retention.superseded_days,
        # Snowflake's fail-safe lasts seven days in every edition.
        "recalled_days": PROD.snowflake_retention_days + 7,
        "versions_days": data_bucket(deployment).old_versions_days,
        "workers": job.workers,
        "comparisons": 24 * 3600 / COMPARE_ALL_EVERY.total_seconds(),
        "run_cpu": size.run_cpu / 1024,
        "run_memory": size.run_memory_mb / 1024,
        "service_cpu": size.service_cpu / 1024,
        "service_memory": size.service_memory_mb / 1024,
        "function_memory": function.memory_mb / 1024,
        "database_zones": 1 + size.database_in_two_zones,
        "database_gb": size.database_gb,
        "nat_gateways": size.nat_gateways,
    }.items():
        assert sheet.values[name] == [value] * SCALES, name
    statements = (PLATFORM / "infra" / "snowflake" / "2_database.sql").read_text()
    assert f"AUTO_SUSPEND = {sheet.values['resting'][0]:.0f} " in statements
    assert "WAREHOUSE_SIZE = XSMALL" in statements


def test_quantities_match_measurements(sheet: Sheet) -> None:
    """Item size and rates equal the measured ones; the log line's length may differ by 2 %."""
    assert sheet.values["item_bytes"] == [item_bytes()] * SCALES
    assert sheet.values["surveyed"] == [round(_MEASURED["long"]["survey"]["items_per_cpu_s"])] * SCALES
    assert sheet.values["written"] == [round(_MEASURED["part"]["mlpipe"]["items_per_cpu_s"])] * SCALES
    joined = next(job for job in _SCORED.values() if job["previous_batch"])
    assert sheet.values["scored"] == [round(joined["rows_per_cpu_s"])] * SCALES
    log = RequestLog(milliseconds=dict.fromkeys(("token", "pointer", "item", "enrichment"), 0.123))
    log.notes.update(
        model="flight_delay",
        batch_id="20130201T060000Z-0123abcd",
        pointer_age=36_000,
        predictions=1,
        not_found=0,
    )
    line = log.line(stage="prod", request_id="0" * 36, trace_id="0" * 40, route="prediction", status=200)
    assert len(line) == pytest.approx(sheet.values["line_bytes"][0], rel=0.02)


def test_estimated_batches_load_within_the_job_timeout(sheet: Sheet) -> None:
    """Every estimated load needs less than half of Glue's timeout."""
    seconds = [
        each / max(many, 1)
        for each, many in zip(sheet.values["loading"], sheet.values["batches"], strict=True)
    ]
    assert max(seconds) < load_job(PROD.deployment()).timeout_minutes * 60 / 2
