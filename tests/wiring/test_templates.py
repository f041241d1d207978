"""Programs accept the settings and arguments that the CDK templates give them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from api_lambda.documentation.openapi import openapi_document
from api_lambda.routes import ROUTES
from api_lambda.settings import Settings as ApiSettings
from glue_scripts.settings import LoadSettings
from mlpipe_dagster.settings import Settings as DagsterSettings
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.naming.s3_layout import done_key, report_key
from tests.infra.cdk.dagster_tasks import containers, variables
from tests.infra.cdk.templates import AWAY, HOME, STAGES
from tests.infra.example_stages import STAGES as SETTINGS

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

REGIONS = [(stage, region) for stage in STAGES for region in (HOME, AWAY)]
BATCH = "20130201T060000Z-0123abcd"
# Lambda sets these itself.
LAMBDA = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_api_reads_its_settings(templates: Templates, stage: str, region: str) -> None:
    """The function's environment describes its own region and the stage's home region."""
    function = templates.one(stage, f"api-{region}", "AWS::Lambda::Function")
    settings = ApiSettings.from_environment(
        {**function["Environment"]["Variables"], **LAMBDA, "AWS_REGION": region}
    )
    assert settings.deployment == SETTINGS[stage].deployment(region)
    assert settings.deployment.is_home == (region == HOME)
    assert settings.client_ids == frozenset(SETTINGS[stage].tokens.client_ids)
    assert function["FunctionName"] == settings.deployment.api_function
    assert function["Role"].endswith(f"role/{settings.deployment.api_role}")


@pytest.mark.parametrize("stage", STAGES)
def test_load_job_parses_its_command_line(templates: Templates, stage: str) -> None:
    """Glue's default arguments do not change the arguments of a run."""
    deployment = SETTINGS[stage].deployment()
    job = templates.one(stage, "data", "AWS::Glue::Job")
    own = LoadArguments(
        model="flight_delay",
        batch_id=BATCH,
        bucket=deployment.data_bucket,
        manifest_key=done_key("flight_delay", BATCH),
        manifest_digest="0" * 64,
        claim_token="t",
        load_attempt=1,
        registry_table=deployment.registry_table,
        online_table=deployment.online_table("flight_delay"),
        items_expire_at=2_000_000_000,
        snowflake_secret=deployment.snowflake_secret,
        snowflake_database=deployment.snowflake_database,
        snowflake_schema=deployment.snowflake_schema,
        snowflake_warehouse=deployment.snowflake_warehouse,
        snowflake_stage=deployment.snowflake_stage,
        snowflake_integration=deployment.snowflake_integration,
        report_key=report_key("flight_delay", BATCH, 1),
    )
    defaults = {
        name: value if isinstance(value, str) else "s3://x" for name, value in job["DefaultArguments"].items()
    }
    merged = {**defaults, **own.glue_arguments(), "--JOB_RUN_ID": "jr_1"}
    argv = [text for pair in merged.items() for text in pair]
    assert LoadSettings.read(argv, {}).arguments == own
    assert job["Name"] == deployment.load_job
    assert (job["GlueVersion"], job["MaxRetries"]) == ("5.1", 0)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("task", ["code", "run"])
def test_dagster_reads_its_settings(templates: Templates, stage: str, task: str) -> None:
    """Code location and runs know services, regions, job code, warehouse and API."""
    settings = DagsterSettings.from_environment(variables(containers(templates, stage)[task]))
    assert settings.deployment.in_region(HOME) == SETTINGS[stage].deployment()
    assert settings.serving_regions == (AWAY,)
    assert re.fullmatch(r"code/sagemaker_scripts/[0-9a-f]{64}/", settings.code_prefix)
    assert settings.api is not None
    assert settings.api.url == f"https://{SETTINGS[stage].domain.api_name}"
    assert settings.provider_url("weather").startswith("https://")
    assert settings.snowflake.database == settings.deployment.snowflake_database


def rules(templates: Templates, stage: str, region: str) -> dict[int, list[str]]:
    """Return the load balancer's path patterns by priority."""
    return {
        each["Priority"]: each["Conditions"][0]["PathPatternConfig"]["Values"]
        for each in templates.properties(stage, f"api-{region}", "AWS::ElasticLoadBalancingV2::ListenerRule")
    }


def matches(path: str, patterns: list[str]) -> bool:
    """Whether one of the load balancer's patterns matches a path."""
    return any(
        re.fullmatch(re.escape(each).replace(r"\*", ".*").replace(r"\?", "."), path) for each in patterns
    )


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_routes_load_balancer_and_firewall_agree(templates: Templates, stage: str, region: str) -> None:
    """Every route passes the firewall and reaches the rule that checks tokens if it needs one."""
    public = SETTINGS[stage].public_documentation
    document = openapi_document(public_documentation=public)
    found = rules(templates, stage, region)
    firewall = templates.one(stage, f"api-{region}", "AWS::WAFv2::WebACL")
    statements = {rule["Name"]: rule["Statement"] for rule in firewall["Rules"]}

    def pattern(rule: str) -> str:
        return statements[rule]["NotStatement"]["Statement"]["RegexMatchStatement"]["RegexString"]

    for path, item in document["paths"].items():
        asked = re.sub("{[a-z_]+}", "x", path)
        operations = {name: each for name, each in item.items() if name != "parameters"}
        is_open = all(each.get("security") == [] for each in operations.values())
        assert matches(asked, found[10]) == is_open, path
        assert is_open or matches(asked, found[20]), path
        assert re.search(pattern("unknown-path"), asked), path
        for method in operations:
            assert re.search(pattern("unknown-method"), method.upper())
    methods = {method for route in ROUTES for method in route.methods}
    assert re.findall("[A-Z]+", pattern("unknown-method")) == sorted(methods)


@pytest.mark.parametrize("path", ["/", "/admin", "/v2/models", "/healthz/x", "/.env"])
def test_unknown_path_is_blocked(templates: Templates, path: str) -> None:
    """No load balancer rule matches it, and the firewall blocks it."""
    found = rules(templates, "prod", HOME)
    assert not matches(path, [*found[10], *found[20]])
    firewall = templates.one("prod", f"api-{HOME}", "AWS::WAFv2::WebACL")
    (unknown,) = [rule for rule in firewall["Rules"] if rule["Name"] == "unknown-path"]
    expression = unknown["Statement"]["NotStatement"]["Statement"]["RegexMatchStatement"]["RegexString"]
    assert not re.search(expression, path)
    assert "Block" in unknown["Action"]
