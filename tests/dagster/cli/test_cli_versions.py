"""`mlpipe models`, `promote`, `demote`, `challenge`, `hold --models` on real packages and a real registry."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.cli.versions import champion_changes
from mlpipe_dagster.cli.versions.package_approval import PackageApprovalError
from prediction_contract.jobs.verdict import APPROVED, PENDING, REJECTED
from prediction_contract.manifests.manifest import ModelPackage
from prediction_contract.registry.version_records import VersionState
from tests.dagster.publication.test_publication_asset import publisher, request
from tests.dagster.versions.registered_packages import JFK, RegisteredPackages, digest_of

if TYPE_CHECKING:
    from tests.dagster.cli_calls import CommandLine
    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack


@pytest.fixture
def registered(small_model: SmallModel) -> RegisteredPackages:
    """The model packages of the small model."""
    return RegisteredPackages(small_model.platform, small_model.name)


def approval(registered: RegisteredPackages, version: int) -> str:
    """Return the approval status of a package at SageMaker."""
    described = registered.packages.describe(registered.model, version)
    assert described is not None
    return described["ModelApprovalStatus"]


def test_candidate_is_approved_and_promoted_by_one_command(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """SageMaker keeps actor and reason, and the output has the champion before and after."""
    version = registered.register(approval=PENDING)
    told = command_line.json(
        "promote", registered.model, str(version), "--actor", "ada", "--reason", "checked"
    )
    assert (told.status, told.document["outcome"]) == (0, "promoted")
    assert (told.document["before"]["version"], told.document["after"]["version"]) == (None, version)
    assert told.document["live_batch_id"] is None
    described = registered.packages.describe(registered.model, version)
    assert described is not None
    assert (described["ModelApprovalStatus"], described["ApprovalDescription"]) == (APPROVED, "ada: checked")
    record = registered.record(version)
    assert (record.state, record.approval) == (VersionState.CHAMPION, APPROVED)
    assert "ada: checked" in (record.approved_by or "")


def test_refused_version_is_not_promoted(registered: RegisteredPackages, command_line: CommandLine) -> None:
    """The message names its state, and the package stays rejected in SageMaker."""
    version = registered.register(approval=REJECTED, reason="mae is worse")
    told = command_line("promote", registered.model, str(version))
    assert told.status == 1
    assert f"Version {version} is refused" in told.err
    assert approval(registered, version) == REJECTED


def test_unknown_version_is_a_readable_error(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The message names the command that lists versions."""
    told = command_line("promote", registered.model, "7")
    assert told.status == 1
    assert "does not know version 7" in told.err
    assert f"mlpipe models {registered.model}" in told.err


def test_demotion_rejects_the_package_and_restores_the_version_before(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """A repeated request leaves the champion as it is, and the package if a person approved it since."""
    first, second = registered.register("exec1"), registered.register("exec2", champion_version=1)
    for version in (first, second):
        assert command_line("promote", registered.model, str(version)).status == 0
    asked = ("demote", registered.model, "--reason", "doubled", "--request-id", "d-1", "--actor", "ada")
    told = command_line.json(*asked)
    assert (told.status, told.document["outcome"], told.document["version"]) == (0, "demoted", second)
    assert told.document["after"]["version"] == first
    assert told.document["after"]["withdrawn_before"] is not None
    assert approval(registered, second) == REJECTED
    assert registered.record(second).state == VersionState.WITHDRAWN
    registered.decide(second, APPROVED)
    again = command_line.json(*asked)
    assert (again.status, again.document["outcome"]) == (0, "unchanged")
    assert again.document["after"] == told.document["after"]
    assert approval(registered, second) == APPROVED


def test_repeated_demotion_rejects_the_package_that_sagemaker_did_not(
    registered: RegisteredPackages, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demotion stands even if SageMaker refuses the rejection."""

    def refuse(*_: object, **__: object) -> None:
        raise PackageApprovalError("SageMaker refused it", remedy="Ask again")

    first, second = registered.register("exec1"), registered.register("exec2")
    for version in (first, second):
        command_line("promote", registered.model, str(version))
    asked = ("demote", registered.model, "--request-id", "d-1")
    with monkeypatch.context() as refusing:
        refusing.setattr(champion_changes, "set_approval", refuse)
        told = command_line(*asked)
    assert (told.status, registered.record(second).state) == (1, VersionState.WITHDRAWN)
    assert approval(registered, second) == APPROVED
    again = command_line.json(*asked)
    assert (again.document["outcome"], again.document["after"]["version"]) == ("unchanged", first)
    assert approval(registered, second) == REJECTED


def test_promotion_of_a_withdrawn_version_approves_it_again(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """A late repetition of the demotion then fails and does not reject the package."""
    first, second = registered.register("exec1"), registered.register("exec2")
    for version in (first, second):
        command_line("promote", registered.model, str(version))
    demotion = ("demote", registered.model, "--request-id", "d-1")
    assert command_line(*demotion).status == 0
    assert command_line("promote", registered.model, str(second)).status == 0
    assert approval(registered, second) == APPROVED
    late = command_line.json(*demotion)
    assert (late.status, late.document["after"]["version"]) == (1, second)
    assert "the model has changed since" in late.err
    assert approval(registered, second) == APPROVED


def test_demotion_of_the_only_version_leaves_no_champion(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """A note says that the model is not scored until a version is promoted."""
    command_line("promote", registered.model, str(registered.register()))
    told = command_line.json("demote", registered.model)
    assert (told.status, told.document["after"]["version"]) == (0, None)
    assert "not scored until a version is promoted" in told.err
    nothing = command_line("demote", registered.model)
    assert nothing.status == 1
    assert "no champion" in nothing.err


def test_demotion_with_batch_rolls_back_past_all_batches_of_the_version(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """The last batch of the version before becomes live, and a repeated request changes nothing."""
    first, second = registered.register("exec1"), registered.register("exec2")
    for version in (first, second):
        command_line("promote", registered.model, str(version))
    batches = [
        small_model.verified_batch(partition=partition, model_version=digest_of(execution)[:16])
        for partition, execution in (
            ("2013-01-29", "exec1"),
            ("2013-01-30", "exec2"),
            ("2013-01-31", "exec2"),
        )
    ]
    for batch_id in batches:
        publisher(small_model).publish(batch_id, request(), small_model.serving)
    asked = ("demote", registered.model, "--with-batch", "--request-id", "both-1")
    told = command_line.json(*asked)
    assert (told.status, told.document["after"]["version"]) == (0, first)
    assert told.document["rollback"]["live_batch_id"] == batches[0]
    assert told.document["live_batch_id"] == batches[0]
    again = command_line.json(*asked)
    assert (again.status, again.document["outcome"], again.document["rollback"]) == (0, "unchanged", None)
    assert again.document["live_batch_id"] == batches[0]
    assert again.document["after"] == told.document["after"]


def test_demotion_with_batch_keeps_a_live_batch_of_another_version(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """If the demoted version did not score the live batch, nothing is rolled back."""
    first, second = registered.register("exec1"), registered.register("exec2")
    for version in (first, second):
        command_line("promote", registered.model, str(version))
    live = small_model.verified_batch(model_version=digest_of("exec1")[:16])
    publisher(small_model).publish(live, request(), small_model.serving)
    told = command_line.json("demote", registered.model, "--with-batch")
    assert (told.status, told.document["rollback"], told.document["live_batch_id"]) == (0, None, live)
    assert "No rollback is needed" in told.err


def test_rollback_says_that_the_champion_stays(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """A note names the commands that keep the same version from scoring the next live batch."""
    version = registered.register()
    command_line("promote", registered.model, str(version))
    for partition in ("2013-01-30", "2013-01-31"):
        batch_id = small_model.verified_batch(partition=partition)
        publisher(small_model).publish(batch_id, request(), small_model.serving)
    told = command_line.json("rollback", registered.model)
    assert told.status == 0
    assert f"Version {version} stays the champion" in told.err
    for remedy in ("mlpipe hold", "mlpipe demote"):
        assert f"{remedy} {registered.model}" in told.err


def test_versions_on_hold_say_what_they_wait_for(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """Released versions are promoted within minutes, and a person may promote one during a hold."""
    version = registered.register()
    held = command_line.json("hold", registered.model, "--models", "--reason", "holiday")
    assert (held.status, held.document["outcome"], held.document["after"]["hold"]) == (0, "held", True)
    registered.follow()
    (row,) = command_line.json("models", registered.model).document["versions"]
    assert (row["version"], row["waits_for"]) == (version, "The model's versions are on hold")
    released = command_line.json("hold", registered.model, "--models", "--release")
    assert (released.document["outcome"], released.document["after"]["hold"]) == ("released", False)
    (row,) = command_line.json("models", registered.model).document["versions"]
    assert "within minutes" in row["waits_for"]
    command_line("hold", registered.model, "--models")
    promoted = command_line.json("promote", registered.model, str(version)).document
    assert (promoted["outcome"], promoted["after"]["version"], promoted["after"]["hold"]) == (
        "promoted",
        version,
        True,
    )


def test_challenger_is_named_and_removed(registered: RegisteredPackages, command_line: CommandLine) -> None:
    """Champion and states stay the same, and a refused version cannot be the challenger."""
    champion, other = registered.register("exec1"), registered.register("exec2", approval=PENDING)
    refused = registered.register("exec3", approval=REJECTED)
    command_line("promote", registered.model, str(champion))
    states = [registered.record(version).state for version in (champion, other, refused)]
    told = command_line.json("challenge", registered.model, str(other))
    assert (told.status, told.document["outcome"]) == (0, "challenged")
    assert (told.document["after"]["challenger"], told.document["after"]["version"]) == (other, champion)
    assert command_line("challenge", registered.model, str(refused)).status == 1
    none = command_line.json("challenge", registered.model, "--none")
    assert (none.status, none.document["after"]["challenger"]) == (0, None)
    assert [registered.record(version).state for version in (champion, other, refused)] == states


def test_versions_are_shown_with_state_and_metrics(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """Metrics beside the champion's, slices, time as champion, batches and the reason to wait are shown."""
    first = registered.register("exec1")
    command_line("promote", registered.model, str(first), "--reason", "the first")
    second = registered.register("exec2", champion_version=1, slices=(JFK,), worse_slices=1)
    third = registered.register("exec3", approval=PENDING, champion_version=1)
    registered.follow()
    command_line("promote", registered.model, str(second))
    for version in (first, second, second):
        package = ModelPackage(registered.packages.arn(registered.model, version), version, "v1", "ada")
        small_model.registered_batch(model_package=package)
    shown = command_line.json("models", registered.model).document
    rows = {row["version"]: row for row in shown["versions"]}
    assert [row["state"] for row in rows.values()] == ["superseded", "champion", "candidate"]
    assert [row["batches"] for row in rows.values()] == [1, 2, 0]
    assert shown["champion"]["version"] == second
    assert (rows[first]["champion_since"], rows[first]["champion_until"]) == (
        shown["changes"][0]["changed_at"],
        shown["changes"][1]["changed_at"],
    )
    assert shown["changes"][0]["reason"] == "the first"
    assert (rows[second]["judged_on"], rows[second]["judged_against"]) == (
        ["2013-02-02", "2013-02-15"],
        first,
    )
    (metric,) = rows[second]["metrics"]
    assert (metric["name"], metric["candidate"], metric["champion"], metric["gain_low"]) == (
        "mae",
        20,
        22,
        0.05,
    )
    assert (rows[second]["slices"][0]["value"], rows[second]["worse_slices"]) == ("JFK", 1)
    assert rows[third]["waits_for"] == "A person must approve it"
    assert rows[third]["execution_arn"].endswith("/exec3")
    newest = command_line.json("models", registered.model, "--newest", "1").document
    assert ([row["version"] for row in newest["versions"]], newest["has_older_versions"]) == ([third], True)
    (overview,) = command_line.json("models").document["models"]
    assert (overview["model"], overview["version"], overview["newest_version"]) == (
        registered.model,
        second,
        third,
    )
    text = command_line("models", registered.model).out
    assert "A person must approve it" in text
    assert "mae" in text


def test_missing_verdict_does_not_hide_the_version(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The version is listed, with the name of the file that cannot be read."""
    registered.register()
    registered.follow()
    verdict_key = registered.record(1).verdict_key
    assert verdict_key
    registered.platform.bucket.delete([verdict_key])
    (row,) = command_line.json("models", registered.model).document["versions"]
    assert (row["metrics"], row["verdict"]) == ([], None)
    assert verdict_key in row["verdict_trouble"]


def test_model_trained_elsewhere_is_registered_once(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """A wrong digest is refused, and the same file again gives the same version."""
    content = b"a booster"
    registered.platform.bucket.put("elsewhere/model.ubj", content)
    sha256 = hashlib.sha256(content).hexdigest()
    asked = ("models", "register", registered.model, "--path", "elsewhere/model.ubj", "--codec", "xgboost")
    wrong = command_line(*asked, "--sha256", "0" * 64)
    assert wrong.status == 1
    assert sha256 in wrong.err
    told = command_line.json(*asked, "--sha256", sha256, "--reason", "notebook 7")
    assert (told.status, told.document["is_new"], told.document["state"]) == (0, True, "candidate")
    version = told.document["version"]
    registered.follow()
    record = registered.record(version)
    assert (record.codec, record.artifact_key, record.digest) == (
        "xgboost",
        "elsewhere/model.ubj",
        sha256[:16],
    )
    again = command_line.json(*asked, "--sha256", sha256)
    assert (again.document["version"], again.document["is_new"]) == (version, False)
    assert command_line("promote", registered.model, str(version)).status == 0
    assert "--codec" in command_line(*asked[:5], "--sha256", sha256).err
