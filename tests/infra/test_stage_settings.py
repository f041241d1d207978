"""`stages.yaml` is validated with file and line, and the deployment guide matches the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from infra.definitions.api_definitions import token_claims
from infra.packaging import PLATFORM
from infra.stages import StageSettingsError, chosen_stages, stage_in, stages_in
from prediction_contract.limits import MAX_CLAIM_VALUES
from tests.infra.example_stages import PROD, STAGES, changed_stage
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path

# Lambda reserves this much of an account's concurrency.
KEPT_BY_LAMBDA = 100
TEXT = """\
live:
  account_id: "111122223333"
  regions:
    - {name: us-east-1, availability_zones: [us-east-1a, us-east-1b]}
    - {name: us-west-2, availability_zones: [us-west-2a, us-west-2b]}
  domain: {hosted_zone_id: Z1, api_name: predictions.example.com}
  tokens: {cognito_pool: us-east-1_AbCd, client_ids: [one]}
  public_documentation: false
  api: {warm_environments: 1, most_warm_environments: 2, requests_per_address: 1000}
  dagster:
    service_cpu: 512
    service_memory_mb: 2048
    run_cpu: 512
    run_memory_mb: 2048
    database_class: db.t4g.small
    database_gb: 20
    database_in_two_zones: false
    nat_gateways: 1
  alarm_address: team@example.com
  monthly_budget_dollars: 600
  pointer_hours: 72
"""


def write(folder: Path, text: str) -> Path:
    """Write a project's `stages.yaml` and return its path."""
    path = folder / "stages.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_omitted_stage_settings_have_defaults(tmp_path: Path) -> None:
    """A Cognito pool's id determines the issuer and the address of its keys."""
    settings = stage_in(write(tmp_path, TEXT), "live")
    assert settings.deployment().registry_table == "mlpipe-live-registry"
    assert (settings.home.name, settings.serving_regions) == ("us-east-1", ("us-west-2",))
    issuer = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCd"
    assert (settings.tokens.issuer, settings.tokens.jwks_url) == (issuer, f"{issuer}/.well-known/jwks.json")
    assert (settings.snowflake, settings.source_buckets, settings.deletion_protection) == (None, (), True)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('"111122223333"', "111122223333", ":2 live.account_id: Value error, YAML reads it as a number"),
        ('"111122223333"', '"1111"', ":2 live.account_id: "),
        ("  pointer_hours: 72\n", "", ":1 live.pointer_hours: Field required"),
        ("pointer_hours: 72", "pointer_hours: often", ":21 live.pointer_hours: "),
        ("  pointer_hours: 72", "  pointer_hour: 72", ":21 live.pointer_hour: Extra inputs"),
        ("    nat_gateways: 1", "    nat_gateway: 1", ":18 live.dagster.nat_gateway: Extra inputs"),
        (
            "pointer_hours: 72",
            "pointer_hours: 72\n  stage: other",
            ":22 live.stage: the key above is the name",
        ),
        (
            "pointer_hours: 72",
            "pointer_hours: 72\n  pointer_hours: 7",
            ":22 pointer_hours: it is listed twice",
        ),
        ("live:", "Live:", ":1 Live.stage: Value error, Live does not have the form"),
        ("name: us-west-2", "name: us-east-1", ":3 live.regions: a stage needs at least one region"),
        (
            "name: us-west-2",
            "name: Oregon",
            ":5 live.regions.1.name: Value error, Oregon does not have the form",
        ),
        (
            "[us-west-2a, us-west-2b]",
            "[us-west-2a]",
            ":5 live.regions.1.availability_zones: us-west-2 needs",
        ),
        ("us-east-1_AbCd", "AbCd", ":7 live.tokens.cognito_pool: 'AbCd' is not a pool's id"),
        ("client_ids: [one]", "issuer: x", ":7 live.tokens.issuer: cognito_pool already determines it"),
        ("cognito_pool: us-east-1_AbCd, ", "", ":7 live.tokens.issuer: Field required"),
        ("pointer_hours: 72", "snowflake_retention_days: 91", ":21 live.snowflake_retention_days: "),
        (
            "pointer_hours: 72",
            "provider_origins: [http]",
            ":21 live.provider_origins.0: Value error, http is not",
        ),
        (
            "pointer_hours: 72",
            "pointer_hours: 72\n  source_buckets: [{name: lake}, {name: lake}]",
            ":22 live.source_buckets: lake is listed twice",
        ),
        ("pointer_hours: 72", "source_buckets: [{name: 's3://lake'}]", ":21 live.source_buckets.0.name: "),
        (
            "pointer_hours: 72",
            "source_buckets: [{name: lake, key_arn: alias/lake}]",
            ":21 live.source_buckets.0.key_arn: ",
        ),
        ("live:", "live", ":2 is not valid YAML: "),
        ("live:", "? [live, dead]\n:", ":1 is not valid YAML: found unhashable key"),
    ],
)
def test_error_names_file_line_and_member(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    """An invalid setting is reported with the file, the line and the setting's name."""
    assert was in TEXT
    path = write(tmp_path, TEXT.replace(was, becomes))
    with pytest.raises(StageSettingsError) as refused:
        stages_in(path)
    assert f"{path}{message}" in str(refused.value)


def test_all_errors_of_all_stages_are_reported_together(tmp_path: Path) -> None:
    """One run shows everything that has to be corrected."""
    wrong = TEXT.replace("pointer_hours: 72", "pointer_hours: x").replace("run_cpu: 512", "run_cpu: y")
    path = write(tmp_path, f"{wrong}{wrong.replace('live:', 'other:')}")
    with pytest.raises(StageSettingsError) as refused:
        stages_in(path)
    for place in (":13 live.dagster.run_cpu", ":21 live.pointer_hours", ":34 other.dagster.run_cpu"):
        assert f"{path}{place}: " in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "live: 1", "- live"])
def test_file_without_stages_is_refused(tmp_path: Path, text: str) -> None:
    """A file that was emptied by mistake must not be deployed."""
    with pytest.raises(StageSettingsError, match=r"stages\.yaml"):
        stages_in(write(tmp_path, text))


def test_missing_file_or_stage_is_reported(tmp_path: Path) -> None:
    """The error names the file's path, or the stages that exist."""
    with pytest.raises(StageSettingsError, match=r"stages\.yaml cannot be read: .* Write it as"):
        stages_in(tmp_path / "stages.yaml")
    with pytest.raises(StageSettingsError, match=r"has no stage prd\. Its stages are live\."):
        chosen_stages(write(tmp_path, TEXT), ["prd"])


# The scope for all models is one of the ten values.
@pytest.mark.parametrize(("field", "most"), [("single_models", 9), ("client_ids", 10), ("audiences", 10)])
def test_token_claims_hold_at_most_ten_values(field: str, most: int) -> None:
    """The load balancer's rule accepts ten values per claim, so a stage with more is refused."""

    def tokens(count: int) -> dict[str, Any]:
        return {**PROD.tokens.model_dump(), field: [f"value_{number}" for number in range(count)]}

    settings = changed_stage(tokens=tokens(most))
    claims = token_claims(settings.deployment(), settings.tokens)
    assert max(len(claim.values) for claim in claims) == MAX_CLAIM_VALUES
    with pytest.raises(ValidationError, match=f"accepts at most {MAX_CLAIM_VALUES}"):
        changed_stage(tokens=tokens(most + 1))


def test_guide_names_required_concurrency_of_each_stage() -> None:
    """A smaller Lambda quota would fail a deployment or warm environments under load."""
    guide = (PLATFORM / "docs" / "deployment.md").read_text(encoding="utf-8")
    needed = {name: each.api.most_warm_environments + KEPT_BY_LAMBDA for name, each in STAGES.items()}
    assert f"{needed['prod']} for `prod`, {needed['dev']} for `dev`" in guide


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        (("https://a.example=weather", "https://b.example=weather"), "provider weather has two addresses"),
        (("https://a.example=api",), "MLPIPE_API_URL is the platform's own"),
        (("https://a.example:99999=weather",), "is not https://host"),
    ],
)
def test_provider_needs_one_valid_address(origins: tuple[str, ...], message: str) -> None:
    """Dagster reads an address from a variable named after the provider, so names must not collide."""
    with pytest.raises(ValidationError, match=message):
        changed_stage(provider_origins=origins)


def test_example_stages_share_their_regions() -> None:
    """A YAML anchor defines the regions of both stages."""
    assert list(stages_in(EXAMPLE.stages_file)) == ["dev", "prod"]
    assert STAGES["dev"].regions == PROD.regions
