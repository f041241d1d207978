"""`mlpipe models`, `promote`, `demote`, `challenge`, `hold --models`: real packages, a real registry."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from prediction_contract.jobs.verdict import APPROVED, PENDING, REJECTED
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


def test_a_candidate_is_approved_and_promoted_by_one_command(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """Nobody has listed the package before; SageMaker keeps who and why, the answer both pointers."""
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


def test_a_refused_version_is_not_promoted(registered: RegisteredPackages, command_line: CommandLine) -> None:
    """The verdict said no: the command names the state, and SageMaker's rejection stands."""
    version = registered.register(approval=REJECTED, reason="mae is worse")
    told = command_line("promote", registered.model, str(version))
    assert told.status == 1
    assert f"Version {version} is refused" in told.err
    assert approval(registered, version) == REJECTED


def test_an_unknown_version_is_an_error_in_words(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The message says where versions are listed."""
    told = command_line("promote", registered.model, "7")
    assert told.status == 1
    assert "does not know version 7" in told.err
    assert f"mlpipe models {registered.model}" in told.err


def test_a_demotion_rejects_the_package_and_brings_the_version_before_back(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """A repeated request does nothing again; it rejects a package that SageMaker did not reject then."""
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


def test_a_withdrawn_version_that_is_promoted_again_is_approved_again(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """After it, a repetition of the demotion neither rejects nor withdraws it."""
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


def test_a_demotion_without_another_version_leaves_no_champion(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The command says that nothing scores the model until a version is promoted."""
    command_line("promote", registered.model, str(registered.register()))
    told = command_line.json("demote", registered.model)
    assert (told.status, told.document["after"]["version"]) == (0, None)
    assert "not scored until a version is promoted" in told.err
    nothing = command_line("demote", registered.model)
    assert nothing.status == 1
    assert "no champion" in nothing.err


def test_a_demotion_with_its_batch_rolls_back_to_another_versions_batch(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """Two batches of the demoted version follow one of the version before; one request id serves both."""
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


def test_a_demotion_leaves_a_live_batch_of_another_version(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """Where the demoted version has scored nothing that is live, nothing is rolled back."""
    first, second = registered.register("exec1"), registered.register("exec2")
    for version in (first, second):
        command_line("promote", registered.model, str(version))
    live = small_model.verified_batch(model_version=digest_of("exec1")[:16])
    publisher(small_model).publish(live, request(), small_model.serving)
    told = command_line.json("demote", registered.model, "--with-batch")
    assert (told.status, told.document["rollback"], told.document["live_batch_id"]) == (0, None, live)
    assert "No rollback is needed" in told.err


def test_a_rollback_says_that_the_champion_stays(
    registered: RegisteredPackages, small_model: SmallModel, command_line: CommandLine
) -> None:
    """It offers what keeps the same answers from coming back with the next batch."""
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


def test_held_versions_wait_and_say_so(registered: RegisteredPackages, command_line: CommandLine) -> None:
    """A hold stops the rule and no person, and its release is as easy."""
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


def test_a_challenger_is_named_and_removed(registered: RegisteredPackages, command_line: CommandLine) -> None:
    """It changes neither champion nor state; a refused version does not challenge."""
    champion, other = registered.register("exec1"), registered.register("exec2", approval=PENDING)
    refused = registered.register("exec3", approval=REJECTED)
    command_line("promote", registered.model, str(champion))
    told = command_line.json("challenge", registered.model, str(other))
    assert (told.status, told.document["outcome"]) == (0, "challenged")
    assert (told.document["after"]["challenger"], told.document["after"]["version"]) == (other, champion)
    assert command_line("challenge", registered.model, str(refused)).status == 1
    none = command_line.json("challenge", registered.model, "--none")
    assert (none.status, none.document["after"]["challenger"]) == (0, None)


def test_versions_are_shown_with_what_they_are_worth(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """State, figures beside the champion's, slices, times as champion, batches, and why one waits."""
    first = registered.register("exec1")
    command_line("promote", registered.model, str(first), "--reason", "the first")
    second = registered.register("exec2", champion_version=1, slices=(JFK,), worse_slices=1)
    third = registered.register("exec3", approval=PENDING, champion_version=1)
    registered.follow()
    command_line("promote", registered.model, str(second))
    shown = command_line.json("models", registered.model).document
    rows = {row["version"]: row for row in shown["versions"]}
    assert [row["state"] for row in rows.values()] == ["superseded", "champion", "candidate"]
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


def test_a_verdict_that_is_gone_is_said_and_hides_nothing(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The version is listed all the same, with what cannot be read."""
    registered.register()
    registered.follow()
    verdict_key = registered.record(1).verdict_key
    assert verdict_key
    registered.platform.bucket.delete([verdict_key])
    (row,) = command_line.json("models", registered.model).document["versions"]
    assert (row["metrics"], row["verdict"]) == ([], None)
    assert verdict_key in row["verdict_trouble"]


def test_a_model_that_was_trained_elsewhere_is_registered_once(
    registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The file is compared with its digest first; the same file again is the same version, which waits."""
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
