"""Tests of retrainings from plan to verdict, on an in-memory bucket."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from prediction_batches.object_store import InputMissingError, ObjectAlteredError
from prediction_contract.errors import ContractError, JobArgumentsError
from prediction_contract.jobs.metrics import Metric
from prediction_contract.naming.s3_layout import RANGE_NAME
from prediction_contract.registry.version_records import ChampionPointer, VersionState
from sagemaker_scripts.features.preparation import write_partitions
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
    """Return the days of February 2013 from the first to the last, inclusive."""
    return [f"2013-02-{day:02}" for day in range(first, last + 1)]


def outcome(verdict: Verdict) -> tuple[int, int, int, str]:
    """Return the values that the pipeline's conditions read, and the approval."""
    return verdict.better, verdict.worse_slices, verdict.needs_person, verdict.approval


def judged_with(model: RetrainedModel, candidate: Any, champion: Any, **facts: Any) -> Verdict:
    """Return the verdict on the given candidate compared with the given champion."""
    model.champion(champion, **facts)
    model.plan(last_partition=LAST)
    return model.judge(model.candidate(candidate))


class TestPlanning:
    def test_first_candidate_is_planned_trained_judged_and_approved(self, model: RetrainedModel) -> None:
        """A first retraining without prepared features or a champion ends in an approved candidate."""
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

    def test_existing_features_are_reused_for_examples_and_outcomes(self, model: RetrainedModel) -> None:
        """A plan prepares only missing days, and reuses features that another execution prepared."""
        first = model.plan("one", last_partition="2013-02-14")
        second = model.plan("two", last_partition="2013-02-13")
        kept = {each.partition: each for each in first.features}
        assert [each.partition for each in second.features] == days(3, 15)
        assert all(each == kept.get(each.partition, each) for each in second.features)
        runs = {each.partition: each.prefix.split("run=")[1] for each in second.features}
        assert (runs["2013-02-03"], runs["2013-02-04"], runs["2013-02-14"]) == ("two/", "one/", "one/")

    def test_next_day_is_planned_if_it_has_data(self, model: RetrainedModel) -> None:
        """Of the days after the last held-out one, only the next is planned, if it has data."""
        without = model.plan("one", last_partition=DAYS[-1])
        assert without.features[-1].partition == DAYS[-1]
        model.deliver(["2013-02-21"])
        delivered = model.plan(
            "two", last_partition=DAYS[-1], attempt=2, now=datetime(2013, 2, 21, tzinfo=UTC)
        )
        assert delivered.features[-1].partition == "2013-02-21"
        model.deliver(["2013-03-01", "2013-02-28"])
        model.deliver(days(22, 28))
        at_its_end = datetime(2013, 2, 28, tzinfo=UTC)
        ended = model.plan("three", last_partition="2013-02-27", now=at_its_end)
        assert ended.features[-1].partition == "2013-02-28"

    def test_partition_that_has_not_ended_is_refused(self, model: RetrainedModel) -> None:
        """So the day after the last held-out one has begun whenever it is prepared."""
        late = datetime(2013, 2, 20, 23, 59, tzinfo=UTC)
        with pytest.raises(JobArgumentsError, match="2013-02-20 has not ended yet"):
            model.plan(last_partition=DAYS[-1], now=late)

    def test_plan_succeeds_after_missing_data_arrives(self, model: RetrainedModel) -> None:
        """A plan that failed for lack of data can be repeated by the same execution once the data arrives."""
        del model.store.client.objects["raw/visits/2013-02-09.csv"]
        with pytest.raises(SourceMissingError, match="no data for 2013-02-09"):
            model.plan(last_partition=LAST)
        model.deliver(["2013-02-09"])
        assert model.plan(last_partition=LAST).has_work

    def test_duplicate_execution_has_no_work(self, model: RetrainedModel) -> None:
        """A second execution with the same range, code and attempt names the first one and does nothing."""
        first = model.plan("one", last_partition=LAST)
        second = model.plan("two", last_partition=LAST, cause="drift")
        assert (second.claimed_by, second.has_work, second.features) == ("one", False, ())
        assert json.loads(second.to_bytes())["proceed"] == 0
        assert first.has_work
        assert model.plan("three", last_partition=LAST, code_version="w").has_work
        assert model.plan("four", last_partition=LAST, attempt=2).has_work
        assert model.plan("five", last_partition="2013-02-14").has_work

    def test_repeated_plan_is_unchanged(self, model: RetrainedModel) -> None:
        """A repeated plan keeps its range and champion despite newer features and a promotion."""
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

    def test_plan_with_different_code_or_inputs_is_refused(self, model: RetrainedModel) -> None:
        """A step fails if its code version or inputs differ from those of its execution's plan."""
        model.plan(last_partition=LAST)
        with pytest.raises(RetrainingPlanError, match="planned with code_version v, but this job has w"):
            model.train(code_version="w")
        model.judged_by(MAE, margin=0.5)
        with pytest.raises(RetrainingPlanError, match="planned with inputs_key"):
            model.judge("s3://mlpipe-data/models/churn/candidates/j/output/model.tar.gz")

    def test_champion_trained_on_held_out_days_fails_plan(self, model: RetrainedModel) -> None:
        """A champion that was trained on held-out days fails the plan, and the range is not claimed."""
        model.champion(FAIR, trained_until="2013-02-12")
        with pytest.raises(RetrainingPlanError, match=r"trained on partitions up to 2013-02-12.*later part"):
            model.plan(last_partition=LAST)
        assert not model.store.listing("models/churn/retraining/claims/")
        assert model.plan("two", last_partition="2013-02-16").first_held_out == "2013-02-13"

    def test_candidate_after_demotion_is_judged_as_first(self, model: RetrainedModel) -> None:
        """If a demotion left no champion, the candidate is judged without one and can be approved."""
        model.registry.pointer = ChampionPointer(
            model="churn", sequence=4, withdrawn_before="2013-02-15T00:00:00Z"
        )
        assert model.plan(last_partition=LAST).champion is None
        assert outcome(model.judge(model.train())) == (1, 0, 0, "Approved")

    def test_features_without_outcomes_are_prepared_again(self, model: RetrainedModel) -> None:
        """Features without outcomes are prepared again, because training would fail on them."""
        index = "features/churn/dt=2013-02-08/run=one/features.json"
        model.plan(last_partition=LAST)
        document = json.loads(model.store.get(index))
        del document["outcomes"]
        model.store.put(index, json.dumps(document).encode())
        plan = model.plan("two", last_partition=LAST, attempt=2)
        assert [each.prefix[-4:] for each in plan.features if each.partition == "2013-02-08"] == ["two/"]

    def test_unreadable_claim_error_suggests_next_attempt(self, model: RetrainedModel) -> None:
        """An unreadable claim fails the plan with advice to start the next attempt."""
        model.plan(last_partition=LAST)
        (claim,) = model.store.listing("models/churn/retraining/claims/")
        model.store.put(claim.key, b"{}")
        with pytest.raises(RetrainingPlanError, match=r"claim s3://.* cannot be read.*next attempt"):
            model.plan("two", last_partition=LAST)


class TestTraining:
    def test_training_uses_only_planned_features(self, model: RetrainedModel) -> None:
        """Newer features of the same days, prepared from changed sources, do not change the model."""
        model.plan(last_partition=LAST)
        first = model.train()
        for day in DAYS:
            model.store.put(f"raw/visits/{day}.csv", b"entity_id,region,visits,spent\ne1,north,1,900\n")
        write_partitions(model.inputs, model.store, DAYS[4:17], run_id="two", code_version="v")
        assert found(model, model.train()) == found(model, first)
        model.plan("two", last_partition=LAST, attempt=2)
        assert found(model, model.train("two")) != found(model, first)

    def test_features_altered_after_planning_are_refused(self, model: RetrainedModel) -> None:
        """Training and judging fail if planned features or their files were changed after planning."""
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

    def test_training_without_outcome_values_fails(self, model: RetrainedModel) -> None:
        """If every outcome of the training days is empty, training fails and names the train function."""
        for day in DAYS:
            lines = model.store.get(f"raw/visits/{day}.csv").decode().splitlines()
            bare = [lines[0], *(f"{line.rpartition(',')[0]}," for line in lines[1:])]
            model.store.put(f"raw/visits/{day}.csv", "\n".join(bare).encode())
        model.plan(last_partition=LAST)
        with pytest.raises(FunctionError, match="train"):
            model.train()

    def test_training_without_plan_fails(self, model: RetrainedModel) -> None:
        """Training names the missing plan if the planning step has not run."""
        with pytest.raises(InputMissingError, match=r"retraining/one/plan.json does not exist"):
            model.train()


def found(model: RetrainedModel, address: str) -> str:
    """Return the digest of the model in an archive."""
    return found_model(model.store, "churn", address.removeprefix("s3://mlpipe-data/")).digest


class TestJudging:
    def test_clearly_better_candidate_is_approved(self, model: RetrainedModel) -> None:
        """The verdict holds both models' metrics on the same rows, the gain and each slice."""
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

    def test_candidate_within_margin_is_rejected(self, model: RetrainedModel) -> None:
        """A gain below the margin rejects the candidate without alerting a person."""
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 10.001})
        assert outcome(verdict) == (0, 0, 0, "Rejected")
        assert verdict.reason.startswith("Not better than the champion by the margin of 1 %")

    def test_worse_slice_rejects_candidate_better_overall(self, model: RetrainedModel) -> None:
        """A candidate that is better overall but worse in the south is rejected, and the slice is named."""
        verdict = judged_with(model, {"rate": 10.0, "south": 8.5}, {"rate": 5.0, "south": 10.0})
        assert outcome(verdict) == (1, 1, 0, "Rejected")
        assert "it is worse in 1 slice, region = south" in verdict.reason

    def test_candidate_identical_to_champion_is_rejected(self, model: RetrainedModel) -> None:
        """A candidate with the champion's digest is not new, and the reason says so."""
        verdict = judged_with(model, FAIR, FAIR)
        assert (verdict.is_new, *outcome(verdict)) == (0, 0, 0, 0, "Rejected")
        assert verdict.reason == "The candidate has the same digest as the champion, so it is the same model"

    def test_verdict_is_repeatable_and_written_once(self, model: RetrainedModel) -> None:
        """A repeated verdict is identical, an existing one is reused, and a second candidate is refused."""
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

    def test_person_decides_without_metrics(self, model: RetrainedModel) -> None:
        """Without metrics no partition is held out, and a person decides about the candidate."""
        model.judged_by()
        verdict = model.retrain(last_partition=LAST)
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert verdict.reason == "The model declares no metrics, so a person decides"
        assert (verdict.trained_until, verdict.first_held_out) == (LAST, None)

    def test_person_decides_with_few_held_out_days(self, model: RetrainedModel) -> None:
        """With fewer than three held-out days, noise cannot be estimated, so a person decides."""
        model.champion({"rate": 8.0})
        verdict = model.retrain(last_partition=LAST, held_out=2)
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert verdict.metrics[0].gain_low is None
        assert "outcomes of at least 3 partitions are needed to tell a gain from noise" in verdict.reason

    def test_person_decides_if_champion_training_data_is_unknown(self, model: RetrainedModel) -> None:
        """A champion with unknown training partitions may know the held-out days, so a person decides."""
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 8.0}, trained_until=None)
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert "because the champion's training partitions are unknown" in verdict.reason

    def test_person_decides_if_champion_fails_with_new_code(self, model: RetrainedModel) -> None:
        """If the current code cannot predict with the champion, a person decides without a comparison."""
        verdict = judged_with(model, {"rate": 10.0}, {"slope": 8.0})
        assert outcome(verdict) == (1, 0, 0, "PendingManualApproval")
        assert "the champion, version 1, cannot predict with this code" in verdict.reason
        assert verdict.champion_version == 1
        assert verdict.metrics[0].champion is None

    def test_candidate_that_fails_to_predict_fails_judging(self, model: RetrainedModel) -> None:
        """If predict fails on the candidate, judging fails, because the code is at fault."""
        with pytest.raises(FunctionError, match=r"predict.*failed.*rate"):
            judged_with(model, {"slope": 8.0}, FAIR)

    def test_damaged_champion_fails_judging(self, model: RetrainedModel) -> None:
        """A champion archive with the wrong SHA-256 fails judging, as it would fail scoring."""
        champion = model.champion(FAIR)
        model.plan(last_partition=LAST)
        candidate = model.candidate(POOR)
        model.store.put(champion.artifact_key, b"other")
        with pytest.raises(ModelArtifactError, match="has SHA-256"):
            model.judge(candidate)

    def test_undefined_deciding_metric_rejects_candidate(self, model: RetrainedModel) -> None:
        """An undefined deciding metric rejects the candidate; another undefined metric is left out."""
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

    def test_next_attempt_judges_late_outcomes(self, make_model: Callable[..., RetrainedModel]) -> None:
        """Judging fails without held-out outcomes; the next attempt uses those that arrived since."""
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

    def test_candidate_with_missing_predictions_is_rejected(
        self, make_model: Callable[..., RetrainedModel]
    ) -> None:
        """A candidate that leaves out hard rows is rejected, although it would look better on the others."""
        holes = PREDICT.replace(
            "    return",
            "    if 'hole' in model:\n"
            "        spending = spending.where(features['visits'] < 8, model['hole'])\n    return",
        )
        model = make_model(predict=holes)
        verdict = judged_with(model, {"rate": 10.0, "hole": None}, {"rate": 8.0})
        assert outcome(verdict) == (0, 0, 0, "Rejected")
        assert "The candidate predicts no spending for " in verdict.reason

    def test_candidate_with_only_invalid_rows_is_rejected(
        self, make_model: Callable[..., RetrainedModel]
    ) -> None:
        """A candidate that predicts only NaN is rejected instead of failing the job."""
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
            # Enough rows, but from only two partitions.
            ((0, 0, 100, 100), True, False),
            ((0, 0, 0, 1), False, False),
        ],
    )
    def test_new_slice_counts_with_enough_rows_and_partitions(
        self,
        make_model: Callable[..., RetrainedModel],
        rows: tuple[int, ...],
        is_compared: bool,
        is_worse: bool,
    ) -> None:
        """A new slice rejects a candidate only with enough rows from enough partitions."""
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

    def test_largest_slices_are_compared(
        self, model: RetrainedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If a column has too many values, only the slices with the most rows are in the verdict."""
        monkeypatch.setattr(judging, "MOST_SLICES", 2)
        for day in DAYS:
            lines = model.store.get(f"raw/visits/{day}.csv").decode().splitlines()
            named = [line.replace("north", f"n{place % 30}") for place, line in enumerate(lines)]
            model.store.put(f"raw/visits/{day}.csv", "\n".join(named).encode())
        verdict = judged_with(model, {"rate": 10.0}, {"rate": 8.0})
        assert [(each.value, each.rows) for each in verdict.slices] == [("south", 240), ("n1", 16)]

    def test_third_poor_candidate_in_a_row_needs_person(self, model: RetrainedModel) -> None:
        """The plan counts refused versions below the baselines; the third in a row alerts a person."""
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
                state=VersionState.REFUSED,
                approval="Rejected",
            )
        # A version without a verdict resets the count.
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
    def test_candidate_outside_models_prefix_is_refused(self, model: RetrainedModel, address: str) -> None:
        """A candidate address outside the model's own candidates prefix is refused."""
        model.plan(last_partition=LAST)
        with pytest.raises(ContractError, match=r"is not below|is not a safe key"):
            model.judge(address)


def test_execution_prefix_holds_range_plan_and_verdict(model: RetrainedModel) -> None:
    """An execution leaves exactly three documents under its own prefix."""
    model.retrain(last_partition=LAST)
    names = {each.key.rpartition("/")[2] for each in model.store.listing("models/churn/retraining/one/")}
    assert names == {RANGE_NAME, "plan.json", "verdict.json"}
