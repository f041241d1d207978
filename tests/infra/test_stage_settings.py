"""What a stage's settings refuse, and what the guide says of them."""

from __future__ import annotations

import dataclasses

import pytest

from infra.definitions.api_definitions import token_claims
from infra.packaging import PLATFORM
from infra.settings import PROD, STAGES, StageSettings, StageSettingsError
from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_CLAIM_VALUES

# Lambda keeps so much of an account's concurrency from provisioned concurrency.
KEPT_BY_LAMBDA = 100


def stage_with(field: str, count: int) -> StageSettings:
    """Return `prod` with so many values in a field of its tokens."""
    values = {field: tuple(f"value_{number}" for number in range(count))}
    return dataclasses.replace(PROD, tokens=dataclasses.replace(PROD.tokens, **values))


# The scope for all models is one of the ten.
@pytest.mark.parametrize(("field", "most"), [("single_models", 9), ("client_ids", 10), ("audiences", 10)])
def test_a_rule_s_claims_hold_ten_values(field: str, most: int) -> None:
    """The most that a stage may name make a claim of ten values; one more is refused here."""
    settings = stage_with(field, most)
    claims = token_claims(settings.deployment(), settings.tokens)
    assert max(len(claim.values) for claim in claims) == MAX_CLAIM_VALUES
    with pytest.raises(StageSettingsError, match=f"takes {MAX_CLAIM_VALUES}"):
        stage_with(field, most + 1)


def test_the_guide_names_the_concurrency_that_each_stage_needs() -> None:
    """A smaller quota of Lambda fails a deployment, or warm environments under load."""
    guide = (PLATFORM / "docs" / "deployment.md").read_text(encoding="utf-8")
    needed = {name: each.api.most_warm_environments + KEPT_BY_LAMBDA for name, each in STAGES.items()}
    assert f"{needed['prod']} for `prod`, {needed['dev']} for `dev`" in guide


@pytest.mark.parametrize(
    ("origins", "told"),
    [
        (("https://a.example=weather", "https://b.example=weather"), "Provider weather has two addresses"),
        (("https://a.example=api",), "MLPIPE_API_URL is the platform's own"),
        (("https://a.example:99999=weather",), "is not https://host"),
    ],
)
def test_a_provider_has_one_address_of_its_own(origins: tuple[str, ...], told: str) -> None:
    """Dagster finds it by a variable of its name, which another provider or the platform would take over."""
    with pytest.raises((StageSettingsError, InvalidNameError), match=told):
        dataclasses.replace(PROD, provider_origins=origins)
