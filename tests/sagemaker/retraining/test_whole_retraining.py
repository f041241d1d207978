"""Retrainings from their plan to their verdict, on a bucket in memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from prediction_batches.object_store import InputMissingError, ObjectAlteredError
from prediction_contract.errors import ContractError
from prediction_contract.jobs.metrics import Metric
from prediction_contract.naming.s3_layout import RANGE_NAME
from prediction_contract.registry.version_records import ChampionPointer
from sagemaker_scripts.functions.function_calls import FunctionError
from sagemaker_scripts.learning.metric_values import EvaluationError
from sagemaker_scripts.learning.model_artifact import ModelArtifactError, found_model
from sagemaker_scripts.retraining import judging
from sagemaker_scripts.retraining.judging import JudgingError
from sagemaker_scripts.retraining.retraining_planning import RetrainingPlanError
from sagemaker_scripts.sources.source_objects import SourceMissingError
from tests.sagemaker.retraining.retrained_model import DAYS, ENTITIES, MAE, OUTCOMES, PREDICT, TRAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.verdict import Verdict
    from tests.sagemaker.retraining.retrained_model import RetrainedModel

LAST = "2013-02-15"
FAIR, POOR = {"rate": 9.9}, {"rate": 5.0}


def days(first: int, last: int) -> list[str]:
    """Return the days of February from one to another."""
    return [f"2013-02-{day:02}" for day in range(first, last + 1)]


def outcome(verdict: Verdict) -> tuple[int, int, int, str]:
    """Return what a pipeline's conditions read, and the approval."""
    return verdict.better, verdict.worse_slices, verdict.needs_person, verdict.approval


def judged_with(model: RetrainedModel, candidate: Any, champion: Any, **facts: Any) -> Verdict:
    """Return the verdict on a given candidate beside a given champion."""
    model.champion(champion, **facts)
    model.plan(last_partition=LAST)
    return model.judge(model.candidate(candidate))


class TestPlanning:
    def test_a_first_candidate_is_planned_trained_judged_and_approved(self, model: RetrainedModel) -> None:
        """Nothing was prepared before, and there is no champion."""
        plan = model.plan(last_partition=LAST)
        assert (plan.first_partition, plan.last_partition) == ("2013-02-05", "2013-02-10")
        assert (plan.first_held_out, plan.last_held_out) == ("2013-02-12", "2013-02-15")
        assert [each.partition for each in plan.features] == days(5, 16)
        verdict = model.judge(model.train())
        assert outcome(verdict) == (1, 0, 0, "Approved")
        assert verdict.is_new == 1
        assert verdict.reason == (
            "Better than every naive baseline in mae:spending; there is no champion to compare with"
        )
        assert [each.name for each in verdict.metrics] == ["mae:spending", "r2:spending"]
        assert verdict.metrics[0].rows == 4 * 120

    def test_features_that_are_there_are_kept_and_later_ones_tell_outcomes(
        self, model: RetrainedModel
    ) -> None:
        """Whoever prepared them; those of the second day after are used, and not prepared for this."""
        first = model.plan("one", last_partition="2013-02-14")
        second = model.plan("two", last_partition="2013-02-13")
        kept = {each.partition: each for each in first.features}
        assert [each.partition for each in second.features] == days(3, 15)
        assert all(each == kept.get(each.partition, each) for each in second.features)
        runs = {each.partition: each.prefix.split("run=")[1] for each in second.features}
        assert (runs["2013-02-03"], runs["2013-02-04"], runs["2013-02-14"]) == ("two/", "one/", "one/")

    def test_the_day_after_the_last_is_left_out_where_it_has_no_data_or_has_not_begun(
        self, model: RetrainedModel
    ) -> None:
        """What is held out on the last day is judged as far as anything is known of it."""
        without = model.plan("one", last_partition=DAYS[-1])
        assert without.features[-1].partition == DAYS[-1]
        model.deliver(["2013-02-21"])
        early = model.plan("two", last_partition=DAYS[-1], attempt=2, now=datetime(2013, 2, 21, tzinfo=UTC))
        assert early.features[-1].partition == "2013-02-21"
        model.deliver(["2013-03-01", "2013-02-28"])
        model.deliver(days(22, 28))
        late = datetime(2013, 2, 28, 23, tzinfo=UTC)
        before_it_begins = model.plan("three", last_partition="2013-02-27", now=late)
        assert before_it_begins.features[-1].partition == "2013-02-28"

    def test_a_day_without_data_fails_the_plan_and_leaves_the_claim_to_this_execution(
        self, model: RetrainedModel
    ) -> None:
        """Once the data is there, the same execution goes on."""
        del model.store.client.objects["raw/visits/2013-02-09.csv"]
        with pytest.raises(SourceMissingError, match="no data for 2013-02-09"):
            model.plan(last_partition=LAST)
        model.deliver(["2013-02-09"])
        assert model.plan(last_partition=LAST).has_work

    def test_a_second_execution_of_a_range_and_code_names_the_first_and_prepares_nothing(
        self, model: RetrainedModel
    ) -> None:
        """Another range, another code and another attempt are work of their own."""
        first = model.plan("one", last_partition=LAST)
        second = model.plan("two", last_partition=LAST, cause="drift")
        assert (second.claimed_by, second.has_work, second.features) == ("one", False, ())
        assert json.loads(second.to_bytes())["proceed"] == 0
        assert first.has_work
        assert model.plan("three", last_partition=LAST, code_version="w").has_work
        assert model.plan("four", last_partition=LAST, attempt=2).has_work
        assert model.plan("five", last_partition="2013-02-14").has_work

    def test_a_repeated_plan_changes_nothing(self, model: RetrainedModel) -> None:
        """Neither a promotion nor newer features count: the champion is the one that was seen first."""
        model.champion(FAIR)
        model.plan("earlier", last_partition=LAST)
        first = model.plan("one", code_version="w")
        assert first.last_held_out == LAST
        model.champion(POOR)
        model.plan("later", last_partition="2013-02-18")
        objects = dict(model.store.client.objects)
        assert model.plan("one", code_version="w") == first
        assert first.champion is not None
        assert (first.champion.version, first.champion_sequence, first.champion_trained_until) == (
            1,
            1,
            "2013-02-05",
        )
        assert model.store.client.objects == objects

    def test_a_plan_of_another_code_or_declaration_is_not_followed(self, model: RetrainedModel) -> None:
        """Steps of one execution are started by one definition; another one must not mix with them."""
        model.plan(last_partition=LAST)
        with pytest.raises(RetrainingPlanError, match="planned with code_version v, but this job has w"):
            model.train(code_version="w")
        model.judged_by(MAE, margin=0.5)
        with pytest.raises(RetrainingPlanError, match="planned with inputs_key"):
            model.judge("s3://mlpipe-data/models/churn/candidates/j/output/model.tar.gz")

    def test_a_champion_that_knows_the_held_out_days_fails_the_plan_before_it_claims(
        self, model: RetrainedModel
    ) -> None:
        """It would look better than it is."""
        model.champion(FAIR, trained_until="2013-02-12")
        with pytest.raises(RetrainingPlanError, match=r"trained on partitions up to 2013-02-12.*later part"):
            model.plan(last_partition=LAST)
        assert not model.store.listing("models/churn/retraining/claims/")
        assert model.plan("two", last_partition="2013-02-16").first_held_out == "2013-02-13"

    def test_after_a_demotion_that_leaves_no_champion_the_candidate_is_judged_as_a_first_one(
        self, model: RetrainedModel
    ) -> None:
        """The pointer is there, and names no version."""
        model.registry.pointer = ChampionPointer(
            model="churn", sequence=4, withdrawn_before="2013-02-15T00:00:00Z"
        )
        assert model.plan(last_partition=LAST).champion is None
        assert outcome(model.judge(model.train())) == (1, 0, 0, "Approved")

    def test_features_from_before_the_model_had_outcomes_are_prepared_again(
        self, model: RetrainedModel
    ) -> None:
        """They tell nothing, and would fail the training."""
        index = "features/churn/dt=2013-02-08/run=one/features.json"
        model.plan(last_partition=LAST)
        document = json.loads(model.store.get(index))
        del document["outcomes"]
        model.store.put(index, json.dumps(document).encode())
        plan = model.plan("two", last_partition=LAST, attempt=2)
        assert [each.prefix[-4:] for each in plan.features if each.partition == "2013-02-08"] == ["two/"]

    def test_an_unreadable_claim_says_what_to_do(self, model: RetrainedModel) -> None:
        """Nobody can tell whose it is."""
        model.plan(last_partition=LAST)
        (claim,) = model.store.listing("models/churn/retraining/claims/")
        model.store.put(claim.key, b"{}")
        with pytest.raises(RetrainingPlanError, match=r"claim s3://.* cannot be read.*next attempt"):
            model.plan("two", last_partition=LAST)


class TestTraining:
    def test_only_planned_features_are_learned_from(self, model: RetrainedModel) -> None:
        """Newer ones of the same days do not count, nor do outcomes that were not known in time."""
        model.plan(last_partition=LAST)
        first = model.train()
        for day in DAYS:
            model.store.put(f"raw/visits/{day}.csv", b"entity_id,region,visits,spent\ne1,north,1,900\n")
        model.plan("two", last_partition="2013-02-16", attempt=2)
        index = [key for key in model.store.client.objects if key.endswith("run=two/features.json")]
        assert len(index) == 1
        assert found(model, model.train()) == found(model, first)

    def test_features_that_were_prepared_again_are_refused(self, model: RetrainedModel) -> None:
        """By the step that trains, and by the one that judges; altered files are refused as they are read."""
        plan = model.plan(last_partition=LAST)
        candidate = model.train()
        held_out = plan.features[-2].prefix
        altered = model.store.get(f"{held_out}features.json").replace(
            b'"code_version": "v"', b'"code_version": "x"'
        )
        kept = model.store.get(f"{held_out}features.json")
        model.store.put(f"{held_out}features.json", altered)
        with pytest.raises(RetrainingPlanError, match=r"2013-02-15 below .* were prepared again after"):
            model.judge(candidate)
        model.store.put(f"{held_out}features.json", kept)
        model.store.put(f"{held_out}features-00000.parquet", b"other")
        with pytest.raises(ObjectAlteredError, match=r"run=one/features-00000.parquet does not have SHA-256"):
            model.judge(candidate)
        learned = f"{plan.features[0].prefix}features.json"
        model.store.put(learned, model.store.get(learned).replace(b'"v"', b'"x"'))
        with pytest.raises(RetrainingPlanError, match=r"2013-02-05 below .* were prepared again after"):
            model.train()

    def test_no_known_outcome_of_the_days_to_learn_from_fails(self, model: RetrainedModel) -> None:
        """Nothing can be learned then."""
        for day in DAYS:
            lines = model.store.get(f"raw/visits/{day}.csv").decode().splitlines()
            bare = [lines[0], *(f"{line.rpartition(',')[0]}," for line in lines[1:])]
            model.store.put(f"raw/visits/{day}.csv", "\n".join(bare).encode())
        model.plan(last_partition=LAST)
        with pytest.raises(FunctionError, match="train"):
            model.train()

    def test_a_training_without_a_plan_fails(self, model: RetrainedModel) -> None:
        """Its step comes after the one that plans."""
        with pytest.raises(InputMissingError, match=r"retraining/one/plan.json does not exist"):
            model.train()


def found(model: RetrainedModel, address: str) -> str:
    """Return the digest of an archive."""
    return found_model(model.store, "churn", address.removeprefix("s3://mlpipe-data/")).digest


class TestJudging:
    def test_a_candidate_that_is_better_beyond_noise_is_approved(self, model: RetrainedModel) -> None:
        """Figures of both on the same rows, and of each slice."""
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 8.0})
        assert outcome(verdict) == (1, 0, 0, "Approved")
        first = verdict.metrics[0]
        assert first.champion is not None
        assert first.gain is not None
        assert first.gain_low is not None
        assert first.rows == 480
        assert first.gain == pytest.approx((first.champion - first.candidate) / first.champion, abs=1e-4)
        assert 0.01 < first.gain_low <= first.gain
        assert [(each.value, each.rows, each.is_worse) for each in verdict.slices] == [
            ("north", 240, False),
            ("south", 240, False),
        ]
        assert verdict.champion_version == 1

    def test_a_candidate_that_is_hardly_better_is_rejected(self, model: RetrainedModel) -> None:
        """By less than the margin; it is evidence and no alarm."""
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 10.001})
        assert outcome(verdict) == (0, 0, 0, "Rejected")
        assert verdict.reason.startswith("Not better than the champion by the margin of 1 %")

    def test_a_worse_slice_rejects_a_candidate_that_is_better_on_the_whole(
        self, model: RetrainedModel
    ) -> None:
        """The champion is right in the south alone."""
        verdict = judged_with(model, {"rate": 10.0, "south": 8.5}, {"rate": 5.0, "south": 10.0})
        assert outcome(verdict) == (1, 1, 0, "Rejected")
        assert "it is worse in 1 slice, region = south" in verdict.reason

    def test_the_champion_once_more_is_no_candidate(self, model: RetrainedModel) -> None:
        """Training is repeatable, so the same features give the same digest."""
        verdict = judged_with(model, FAIR, FAIR)
        assert (verdict.is_new, *outcome(verdict)) == (0, 0, 0, 0, "Rejected")
        assert verdict.reason == "The candidate has the same digest as the champion, so it is the same model"

    def test_a_verdict_is_the_same_byte_by_byte_and_made_once(self, model: RetrainedModel) -> None:
        """Draws come from the content; a repeated step reads what the first one wrote."""
        verdict = judged_with(model, {"rate": 10.0}, FAIR)
        key = "models/churn/retraining/one/verdict.json"
        first = model.store.get(key)
        del model.store.client.objects[key]
        address = model.store.address(verdict.candidate_key)
        assert model.judge(address).to_bytes() == first == model.store.get(key)
        model.store.put(verdict.candidate_key, b"gone")
        assert model.judge(address) == verdict
        with pytest.raises(JudgingError, match=r"The execution has already judged .*given-one.*, not "):
            model.judge(model.candidate(POOR, "two"))

    def test_without_metrics_a_person_decides(self, model: RetrainedModel) -> None:
        """Nothing is held out, and nothing is compared."""
        model.judged_by()
        verdict = model.retrain(last_partition=LAST)
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert verdict.reason == "The model declares no metrics, so a person decides"
        assert (verdict.trained_until, verdict.first_held_out) == (LAST, None)

    def test_fewer_than_three_held_out_days_leave_the_decision_to_a_person(
        self, model: RetrainedModel
    ) -> None:
        """Nobody can tell a gain from noise then."""
        model.champion({"rate": 8.0})
        verdict = model.retrain(last_partition=LAST, held_out=2)
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert verdict.metrics[0].gain_low is None
        assert "outcomes of at least 3 partitions are needed to tell a gain from noise" in verdict.reason

    def test_a_champion_of_which_nobody_says_what_it_learned_from_leaves_it_to_a_person(
        self, model: RetrainedModel
    ) -> None:
        """It may know the held-out days."""
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 8.0}, trained_until=None)
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert "because the champion's training partitions are unknown" in verdict.reason

    def test_a_champion_that_this_code_cannot_use_leaves_it_to_a_person(self, model: RetrainedModel) -> None:
        """The code was changed together with what `train` returns; scoring could not use it, either."""
        verdict = judged_with(model, {"rate": 10.0}, {"slope": 8.0})
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert "the champion, version 1, cannot predict with this code" in verdict.reason
        assert verdict.champion_version == 1
        assert verdict.metrics[0].champion is None

    def test_a_candidate_that_this_code_cannot_use_fails(self, model: RetrainedModel) -> None:
        """The fault is the code's, and a person must see it."""
        with pytest.raises(FunctionError, match=r"predict.*failed.*rate"):
            judged_with(model, {"slope": 8.0}, FAIR)

    def test_a_damaged_champion_fails(self, model: RetrainedModel) -> None:
        """Scoring would fail as well, so a person must see it."""
        champion = model.champion(FAIR)
        model.plan(last_partition=LAST)
        candidate = model.candidate(POOR)
        model.store.put(champion.artifact_key, b"other")
        with pytest.raises(ModelArtifactError, match="has SHA-256"):
            model.judge(candidate)

    def test_outcomes_of_which_the_metric_says_nothing_reject_the_candidate(
        self, model: RetrainedModel
    ) -> None:
        """All held-out outcomes are alike; a further metric is left out of the verdict."""
        for day in DAYS:
            lines = [f"e{number},north,1,{number % 7}" for number in range(300)]
            model.store.put(
                f"raw/visits/{day}.csv", "\n".join(["entity_id,region,visits,spent", *lines]).encode()
            )
        auc = Metric("roc_auc", "spending", "big")
        model.judged_by(auc, MAE)
        verdict = model.retrain("one", last_partition=LAST)
        assert outcome(verdict) == (0, 0, 0, "Rejected")
        assert "the same big" in verdict.reason
        model.judged_by(MAE, auc)
        assert [each.name for each in model.retrain("two", last_partition="2013-02-14").metrics] == [
            "mae:spending"
        ]

    def test_late_outcomes_fail_the_first_attempt_and_are_judged_by_the_next(
        self, make_model: Callable[..., RetrainedModel]
    ) -> None:
        """A later day's features tell those of one held-out day only, so a person decides."""
        known = OUTCOMES.replace('["spent"] > 40)', '["spent"] > 40).dropna()')
        model = make_model(outcomes=known)
        model.champion(POOR)
        for day in days(12, 20):
            lines = model.store.get(f"raw/visits/{day}.csv").decode().splitlines()
            bare = [lines[0], *(f"{line.rpartition(',')[0]}," for line in lines[1:])]
            model.store.put(f"raw/visits/{day}.csv", "\n".join(bare).encode())
        model.plan(last_partition=LAST)
        with pytest.raises(EvaluationError, match=r"No outcome of the held-out partitions is known.*attempt"):
            model.judge(model.train())
        model.deliver(days(12, 20))
        model.plan("later", last_partition="2013-02-17")
        verdict = model.retrain("two", last_partition=LAST, attempt=2)
        assert verdict.metrics[0].rows == ENTITIES
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")

    def test_a_candidate_that_answers_fewer_rows_is_rejected(
        self, make_model: Callable[..., RetrainedModel]
    ) -> None:
        """It would look better on the easy rows; NaN and a missing row count alike."""
        holes = PREDICT.replace(
            "    return",
            "    if 'hole' in model:\n"
            "        spending = spending.where(features['visits'] < 8, model['hole'])\n    return",
        )
        model = make_model(predict=holes)
        verdict = judged_with(model, {"rate": 10.0, "hole": None}, {"rate": 8.0})
        assert outcome(verdict) == (0, 0, 0, "Rejected")
        assert "The candidate predicts no spending for " in verdict.reason

    def test_a_candidate_none_of_whose_rows_a_load_accepts_is_rejected(
        self, make_model: Callable[..., RetrainedModel]
    ) -> None:
        """A training that failed to learn is refused like any poor candidate."""
        model = make_model(train=TRAIN.replace(".mean())", ".mean() * float('nan'))"))
        model.champion(FAIR)
        verdict = model.judge(model.train()) if model.plan(last_partition=LAST).has_work else None
        assert verdict is not None
        assert outcome(verdict) == (0, 0, 0, "Rejected")
        assert "A load would accept no prediction" in verdict.reason

    @pytest.mark.parametrize(
        ("rows", "is_compared", "is_worse"),
        [
            ((50, 50, 50, 50), True, True),
            ((50, 50, 50, 49), False, False),
            # Enough rows, from two partitions only.
            ((0, 0, 100, 100), True, False),
            ((0, 0, 0, 1), False, False),
        ],
    )
    def test_a_new_slice_decides_once_it_has_enough_rows_of_enough_partitions(
        self,
        make_model: Callable[..., RetrainedModel],
        rows: tuple[int, ...],
        is_compared: bool,
        is_worse: bool,
    ) -> None:
        """The champion never saw the west, where the candidate is worse."""
        model = make_model(predict=PREDICT.replace("south", "west"))
        for day, count in zip(days(12, 15), rows, strict=True):
            header, *lines = model.store.get(f"raw/visits/{day}.csv").decode().splitlines()
            moved = [line.replace("north", "west").replace("south", "west") for line in lines[:count]]
            content = "\n".join([header, *moved, *lines[count:]]).encode()
            model.store.put(f"raw/visits/{day}.csv", content)
        verdict = judged_with(model, {"rate": 10.0, "west": 7.8}, {"rate": 8.0})
        (west,) = (each for each in verdict.slices if each.value == "west")
        assert (west.rows, west.candidate is not None, west.is_worse) == (sum(rows), is_compared, is_worse)
        assert outcome(verdict) == (1, int(is_worse), 0, "Rejected" if is_worse else "Approved")

    def test_of_many_slices_those_of_most_rows_are_compared(
        self, model: RetrainedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A column of many values would make a verdict that nobody reads."""
        monkeypatch.setattr(judging, "MOST_SLICES", 2)
        for day in DAYS:
            lines = model.store.get(f"raw/visits/{day}.csv").decode().splitlines()
            named = [line.replace("north", f"n{place % 30}") for place, line in enumerate(lines)]
            model.store.put(f"raw/visits/{day}.csv", "\n".join(named).encode())
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 8.0})
        assert [(each.value, each.rows) for each in verdict.slices] == [("south", 240), ("n1", 16)]

    def test_the_third_candidate_in_a_row_that_is_no_better_than_naive_needs_a_person(
        self, model: RetrainedModel
    ) -> None:
        """Earlier verdicts are those of the newest versions, refused ones among them."""
        versions = []
        for number in range(3):
            execution, last = f"e{number}", f"2013-02-{13 + number}"
            plan = model.plan(execution, last_partition=last)
            assert plan.candidates_below_baselines == min(number, 2)
            verdict = model.judge(model.candidate({"rate": 90.0 + number}, execution), execution)
            assert (verdict.better, verdict.needs_person) == (0, int(number == 2))
            versions.append(found_model(model.store, "churn", verdict.candidate_key))
            model.registry.add(
                versions[-1],
                verdict_key=f"models/churn/retraining/{execution}/verdict.json",
            )
        # A version without a verdict breaks the row.
        model.registry.add(versions[-1])
        assert model.plan("last", last_partition="2013-02-17").candidates_below_baselines == 0

    @pytest.mark.parametrize(
        "address",
        [
            "s3://other/models/churn/candidates/j/output/model.tar.gz",
            "s3://mlpipe-data/models/other/candidates/j/output/model.tar.gz",
            "s3://mlpipe-data/models/churn/j/output/model.tar.gz",
            "s3://mlpipe-data/models/churn/candidates/../j/output/model.tar.gz",
        ],
    )
    def test_a_candidate_from_elsewhere_is_not_judged(self, model: RetrainedModel, address: str) -> None:
        """Another bucket, another model, an archive of no retraining, a path with `..`."""
        model.plan(last_partition=LAST)
        with pytest.raises(ContractError, match=r"is not below|is not a safe key"):
            model.judge(address)


def test_the_prefix_of_an_execution_holds_range_plan_and_verdict(model: RetrainedModel) -> None:
    """Nothing else is left of it beside features, candidate and claim."""
    model.retrain(last_partition=LAST)
    names = {each.key.rpartition("/")[2] for each in model.store.listing("models/churn/retraining/one/")}
    assert names == {RANGE_NAME, "plan.json", "verdict.json"}
