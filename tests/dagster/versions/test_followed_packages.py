"""The registry follows SageMaker's model packages, even after lost, duplicate or late events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlpipe_dagster.versions.followed_packages import FollowedPackages, follow_packages
from mlpipe_dagster.versions.model_packages import ModelPackageError
from mlpipe_dagster.versions.promotion_by_rule import PromotionByRule, promote_by_rule
from prediction_contract.jobs.verdict import APPROVED, PENDING, REJECTED
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.version_records import VersionState
from prediction_contract.registry.version_rules import demote, hold_versions
from tests.dagster.versions.registered_packages import RegisteredPackages, digest_of

pytestmark = pytest.mark.stack
PERSON = "ann"


def follow(registered: RegisteredPackages, *named: int) -> FollowedPackages:
    """Follow the model's packages once."""
    return follow_packages(registered.packages, registered.registry, registered.model, named=named)


def promote(registered: RegisteredPackages) -> PromotionByRule:
    """Follow the packages, and promote by rule."""
    return promote_by_rule(
        registered.registry,
        registered.model,
        follow(registered).versions.values(),
        actor="sensor",
        now=datetime.now(UTC),
    )


def test_package_is_recorded_once(registered: RegisteredPackages) -> None:
    """The record holds what scoring needs, and following the package again changes nothing."""
    version = registered.register("exec1")
    assert follow(registered).recorded == (version,)
    record = registered.record(version)
    assert record.state == VersionState.APPROVED
    assert (record.digest, record.artifact_sha256) == (digest_of("exec1")[:16], digest_of("exec1"))
    assert record.artifact_key == f"models/{registered.model}/candidates/exec1/output/model.tar.gz"
    assert (record.artifact_bucket, record.codec) == (None, None)
    assert record.package_arn == registered.packages.arn(registered.model, version)
    assert (record.approved_by, record.trained_until, record.judged_against) == ("rule", "2013-01-31", 0)
    pipeline = registered.platform.settings.deployment.retraining_pipeline_arn(registered.model)
    assert record.execution_arn == f"{pipeline}/execution/exec1"
    again = follow(registered, version)
    assert (again.recorded, again.unusable, again.deleted) == ((), {}, ())
    assert again.versions == {version: record}


def test_approval_by_a_person_is_recorded(registered: RegisteredPackages) -> None:
    """Approval and rejection change the state and keep the person's words."""
    version = registered.register("exec1", approval=PENDING)
    assert follow(registered).versions[version].state == VersionState.CANDIDATE
    registered.decide(version, APPROVED, "ann: figures are fine")
    assert follow(registered).recorded == (version,)
    approved = registered.record(version)
    assert approved.state == VersionState.APPROVED
    assert "ann: figures are fine" in str(approved.approved_by)
    registered.decide(version, REJECTED, "ann: not on Sundays")
    refused = follow(registered).versions[version]
    assert (refused.state, refused.reason) == (VersionState.REFUSED, "ann: not on Sundays")


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"digest": ""}, "'digest' is missing"),
        ({"sha256": "abc"}, "sha256 'abc' is invalid"),
        ({"verdict": "models/others/retraining/exec1/verdict.json"}, "is not the key of a verdict on"),
        ({"digest": "0" * 16}, "its verdict judged"),
        ({"trained_until": "yesterday"}, "yesterday"),
        (
            {"execution": "arn:aws:sagemaker:us-east-1:000000000000:pipeline/x/execution/y"},
            "not an execution of",
        ),
    ],
)
def test_unusable_package_does_not_block_others(
    registered: RegisteredPackages, said: dict[str, str], what: str
) -> None:
    """It is reported with its number and its fault, and the other package is recorded."""
    bad = registered.register("exec1", said=said)
    good = registered.register("exec2")
    found = follow(registered)
    assert found.recorded == (good,)
    assert what in found.unusable[bad]
    assert f"Model package {bad} cannot be used" in found.unusable[bad]


def test_archive_from_elsewhere_needs_a_codec(registered: RegisteredPackages) -> None:
    """Without one the package cannot be used, because no retraining made it."""
    said = {"digest": digest_of("a")[:16], "sha256": digest_of("a")}
    bad = registered.create("s3://elsewhere/models/a.ubj", PENDING, said)
    good = registered.create("s3://elsewhere/models/a.ubj", PENDING, {**said, "codec": "xgboost"})
    found = follow(registered)
    assert "is not below" in found.unusable[bad]
    record = found.versions[good]
    assert (record.artifact_bucket, record.artifact_key) == ("elsewhere", "models/a.ubj")
    assert (record.codec, record.verdict_key, record.execution_arn) == ("xgboost", None, None)


def test_deleted_champion_package_is_reported(registered: RegisteredPackages) -> None:
    """The champion stays as recorded, and a refused version's package may be missing."""
    champion, refused = registered.register("exec1"), registered.register("exec2", approval=REJECTED)
    assert promote(registered).promoted == champion
    for version in (champion, refused):
        registered.sagemaker.delete_model_package(
            ModelPackageName=registered.packages.arn(registered.model, version)
        )
    found = follow(registered)
    assert (found.deleted, found.recorded, found.unusable) == ((champion,), (), {})
    assert registered.record(champion).state == VersionState.CHAMPION


def test_missing_package_group_error_names_remedy(registered: RegisteredPackages) -> None:
    """A declared model that is not deployed fails with the command to run."""
    with pytest.raises(ModelPackageError, match="mlpipe up"):
        registered.packages.listing(f"x{registered.model}"[:41])


def test_newest_approved_version_is_promoted_once(registered: RegisteredPackages) -> None:
    """An older version that is approved later stays approved."""
    older, newer = registered.register("exec1", approval=PENDING), registered.register("exec2")
    assert promote(registered).promoted == newer
    assert promote(registered).promoted is None
    registered.decide(older, APPROVED)
    assert promote(registered) == PromotionByRule(champion=registered.registry.champion(registered.model))
    assert registered.record(older).state == VersionState.APPROVED
    assert [entry.sequence for entry in registered.registry.promotions(registered.model)] == [1]


def test_version_judged_against_former_champion_waits(registered: RegisteredPackages) -> None:
    """It stays approved with the reason, because the champion has changed since."""
    first = registered.register("exec1")
    assert promote(registered).promoted == first
    second = registered.register("exec2", champion_version=first)
    third = registered.register("exec3", champion_version=first)
    # Of both versions only the newest is promoted.
    assert promote(registered).promoted == third
    fourth = registered.register("exec4", champion_version=first)
    waits = promote(registered)
    assert waits.promoted is None
    assert "champion has changed since the plan" in waits.waiting[fourth]
    assert registered.record(second).state == VersionState.APPROVED


def test_hold_and_demotion_stop_automatic_promotion(registered: RegisteredPackages) -> None:
    """Nothing is promoted during a hold, nor a version made before a demotion."""
    registry, model = registered.registry, registered.model
    first = registered.register("exec1")
    promote(registered)
    request = ChangeRequest(request_id="h1", actor=PERSON)
    registry.carry_out(
        lambda: hold_versions(
            registry.champion(model), request, model=model, held=True, now=datetime.now(UTC)
        )
    )
    second = registered.register("exec2", champion_version=first)
    assert "hold" in promote(registered).waiting[second]
    pointer = registry.champion(model)
    assert pointer is not None
    registry.carry_out(
        lambda: demote(None, pointer, ChangeRequest(request_id="d1", actor=PERSON), now=datetime.now(UTC))
    )
    registry.carry_out(
        lambda: hold_versions(
            registry.champion(model),
            ChangeRequest(request_id="h2", actor=PERSON),
            model=model,
            held=False,
            now=datetime.now(UTC),
        )
    )
    assert promote(registered).promoted is None
    assert registered.record(first).state == VersionState.WITHDRAWN


def test_event_reaches_version_beyond_the_listing(
    registered: RegisteredPackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version on a page that is not listed is recorded if an event names it."""
    monkeypatch.setattr("mlpipe_dagster.versions.model_packages._PAGE", 1)
    monkeypatch.setattr("mlpipe_dagster.versions.model_packages._MAX_PAGES", 1)
    old, new = registered.register("exec1"), registered.register("exec2")
    assert follow(registered).recorded == (new,)
    assert follow(registered, old).recorded == (old,)
    # The old version is missing from the listing only because the listing ends before it.
    assert follow(registered).deleted == ()
