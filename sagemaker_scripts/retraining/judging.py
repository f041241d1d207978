"""The verdict of a retraining: compares candidate and champion on the same held-out data."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prediction_batches.errors import PredictionsError
from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.metrics import Metric
from prediction_contract.jobs.model_inputs import Judging, ModelInputs
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.jobs.retraining_arguments import JudgeArguments
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import MetricComparison, SliceComparison, Verdict
from prediction_contract.naming.s3_layout import (
    VERDICT_NAME,
    candidates_prefix,
    retraining_prefix,
    validated_key,
)
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.functions.function_calls import FunctionError, ModelFunctions
from sagemaker_scripts.learning.evaluation import backtest, require_outcome_column, trained_values
from sagemaker_scripts.learning.metric_values import (
    EvaluationError,
    UndecidedMetricError,
    loss_of,
    metric_value,
    require_decidable,
    rounded_value,
)
from sagemaker_scripts.learning.model_artifact import ArchivedModel, archived_model, load_model
from sagemaker_scripts.learning.outcomes import ScoredPartition
from sagemaker_scripts.learning.prepared_partitions import PreparedPartitions
from sagemaker_scripts.retraining.joined_predictions import JoinedPredictions
from sagemaker_scripts.retraining.paired_bootstrap import (
    LEAST_PARTITIONS,
    PairedRows,
    drawn_weights,
    gain_interval,
    gain_of,
)
from sagemaker_scripts.retraining.planned_partitions import partitions_to_judge_on, partitions_to_learn_from
from sagemaker_scripts.retraining.retraining_planning import (
    LARGEST_VERDICT,
    found_plan,
    require_unseen_outcomes,
)
from sagemaker_scripts.retraining.verdict_rules import Judgement, judge_candidate, pending, refused
from sagemaker_scripts.tables.returned_tables import ReturnedTableError

_LOG = logging.getLogger(__name__)
# The difference in a slice of fewer rows is mostly chance.
LEAST_SLICE_ROWS = 200
# The largest slices of a column; with more, a verdict would be too long to read.
MOST_SLICES = 100
# The share of the champion's rows that the candidate may lack. A candidate that predicts only easy rows would
# look better.
_MOST_LEFT_OUT = 0.001
_DECIMALS = 6


class JudgingError(ContractError):
    """A candidate cannot be judged, because an input does not match the job's arguments."""


class _Models(NamedTuple):
    """The predictions of a retraining's models.

    Attributes:
        candidate: The candidate's predictions of each held-out partition.
        champion: The champion's predictions; None if there is no champion, or it cannot predict.
        doubts: The reasons why a person must decide.
    """

    candidate: list[ScoredPartition]
    champion: list[ScoredPartition] | None
    doubts: list[str]


def find_or_make_verdict(arguments: JudgeArguments, store: ObjectStore, inputs: ModelInputs) -> Verdict:
    """Return the verdict of an execution; the first call makes it, and later calls return the same.

    Args:
        arguments: The job's arguments.
        store: The data bucket.
        inputs: The model's inputs.

    Raises:
        ContractError: The plan's features, the candidate or the champion are missing or altered, no outcome
            is known, the champion was trained on held-out partitions, or a function of the model fails.
    """
    plan, candidate_key = found_plan(arguments, store), _candidate_key(arguments, store)
    key = f"{retraining_prefix(arguments.model, arguments.execution_id)}{VERDICT_NAME}"
    content = store.find(key, largest=LARGEST_VERDICT)
    if content is None:
        candidate = archived_model(store, arguments.model, candidate_key)
        made = _verdict(plan, store, inputs, candidate).to_bytes()
        # Another run of the same execution may have written it first.
        content = made if store.put_new(key, made) else store.get(key, largest=LARGEST_VERDICT)
    verdict = Verdict.parse(content)
    if verdict.candidate_key != candidate_key:
        raise JudgingError(
            f"The execution has already judged {verdict.candidate_key}, not {candidate_key}",
            remedy="Start a new retraining",
            model=arguments.model,
        )
    return verdict


def _candidate_key(arguments: JudgeArguments, store: ObjectStore) -> str:
    """Return the key of the candidate's archive, which must be from a retraining of this model."""
    beginning = store.address(candidates_prefix(arguments.model))
    if not arguments.candidate.startswith(beginning):
        raise JudgingError(
            f"The candidate {arguments.candidate} is not below {beginning}",
            remedy="Pass the archive of the execution's own training job",
            model=arguments.model,
        )
    return validated_key(arguments.candidate[len(store.address("")) :])


def _verdict(
    plan: RetrainingPlan, store: ObjectStore, inputs: ModelInputs, archived: ArchivedModel
) -> Verdict:
    champion, candidate = plan.champion, archived.pinned
    metrics: list[MetricComparison] = []
    slices: list[SliceComparison] = []
    is_new = champion is None or champion.digest != candidate.digest
    if not is_new:
        judgement = refused("The candidate has the same digest as the champion, so it is the same model")
    elif not inputs.metrics:
        judgement = pending("The model declares no metrics, so a person decides")
    else:
        require_unseen_outcomes(plan.champion_trained_until, plan.first_held_out, plan.model)
        judgement = _Comparison(plan, store, inputs, candidate).judgement(metrics, slices)
    return Verdict(
        model=plan.model,
        execution_id=plan.execution_id,
        candidate_digest=candidate.digest,
        candidate_key=candidate.key,
        candidate_sha256=candidate.sha256,
        champion_version=0 if champion is None else champion.version or 0,
        champion_digest="" if champion is None else champion.digest,
        trained_until=plan.last_partition,
        trained_rows=archived.rows,
        libraries=archived.libraries,
        first_held_out=plan.first_held_out,
        last_held_out=plan.last_held_out,
        is_new=int(is_new),
        metrics=tuple(metrics),
        slices=tuple(slices),
        **judgement._asdict(),
    )


class _Comparison:
    """Compares one candidate with the champion."""

    def __init__(
        self, plan: RetrainingPlan, store: ObjectStore, inputs: ModelInputs, candidate: PinnedModel
    ) -> None:
        self._plan = plan
        self._store = store
        self._inputs = inputs
        self._candidate = candidate
        self._judging = inputs.judging or Judging()
        # The same inputs must give the same draws and so the same verdict.
        names = [[each.partition, each.digest] for each in plan.features]
        champion = plan.champion and plan.champion.digest
        self._seed = json.dumps([names, candidate.digest, champion])

    def judgement(self, metrics: list[MetricComparison], slices: list[SliceComparison]) -> Judgement:
        """Return the judgement, and add the figures to the lists."""
        held_out = partitions_to_judge_on(self._plan, self._store)
        try:
            models = self._predictions(held_out)
        except EvaluationError as error:
            return refused(f"{error.what}; the candidate cannot be judged")
        joined = JoinedPredictions.of_models(
            models.candidate,
            models.champion,
            held_out.outcomes,
            metrics=self._inputs.metrics,
            slices=self._judging.slices,
        )
        deciding, *others = self._inputs.metrics
        learned = partitions_to_learn_from(self._plan, self._store, has_outcomes=True).known_values()
        for metric in self._inputs.metrics:
            require_outcome_column(metric, joined.rows.columns, learned.column_names)
        joined.require_outcomes(deciding)
        weights = drawn_weights(self._seed, joined.partitions)
        if models.champion is not None:
            answered, left_out = joined.left_out(deciding)
            if left_out > _MOST_LEFT_OUT * answered:
                return refused(
                    f"The candidate predicts no {deciding.predicted} for {left_out} of the {answered} "
                    "held-out rows that the champion predicts"
                )
        try:
            first = self._compared(deciding, joined, trained_values(deciding, learned), weights)
        except UndecidedMetricError as error:
            return refused(f"{error.what}; the candidate cannot be judged")
        metrics.append(first)
        for metric in others:
            try:
                metrics.append(self._compared(metric, joined, trained_values(metric, learned), weights))
            except UndecidedMetricError as error:
                _LOG.warning("%s is left out of the verdict: %s", metric.label, error.what)
        doubts = models.doubts
        if models.champion is not None:
            slices.extend(self._slices(deciding, joined, weights))
            if first.gain_low is None:
                doubts.append(
                    f"outcomes of at least {LEAST_PARTITIONS} partitions are needed to tell a gain from noise"
                )
        return judge_candidate(
            first,
            slices,
            self._judging,
            doubts=doubts,
            candidates_below_baselines=self._plan.candidates_below_baselines,
        )

    def _predictions(self, held_out: PreparedPartitions) -> _Models:
        plan, doubts = self._plan, list[str]()
        candidate = self._scored(self._candidate, held_out)
        if plan.champion is None:
            return _Models(candidate, None, doubts)
        if plan.champion_trained_until is None:
            doubts.append("the champion's training partitions are unknown")
        try:
            champion = self._scored(plan.champion, held_out)
        except (EvaluationError, FunctionError, PredictionsError, ReturnedTableError) as error:
            # The candidate was scored successfully with the same code.
            doubts.append(
                f"the champion, version {plan.champion.version}, cannot predict with this code: {error.what}"
            )
            return _Models(candidate, None, doubts)
        return _Models(candidate, champion, doubts)

    def _scored(self, pinned: PinnedModel, held_out: PreparedPartitions) -> list[ScoredPartition]:
        inputs = self._inputs
        trained = load_model(self._store, inputs.model, pinned, Codecs(inputs.codecs))
        schema, cleaning = read_columns(self._store, self._plan.schema_key)
        functions = ModelFunctions(inputs)
        return backtest(functions, trained.artifact, held_out.partitions(), schema, cleaning).scored

    def _compared(
        self, metric: Metric, joined: JoinedPredictions, trained: np.ndarray, weights: np.ndarray
    ) -> MetricComparison:
        rows = joined.paired(metric)
        found = metric_value(metric, rows.actual, rows.candidate, trained)
        champion = gain = low = None
        if joined.has_champion:
            champion = rounded_value(loss_of(metric)(rows.actual, rows.champion))
            gain = round(_gain(metric, rows), _DECIMALS)
            interval = gain_interval(metric, rows, weights)
            low = None if interval is None else round(interval.low, _DECIMALS)
        return MetricComparison(
            name=metric.label,
            better="lower" if metric.is_lower_better else "higher",
            rows=found.rows,
            candidate=found.value,
            champion=champion,
            gain=gain,
            gain_low=low,
            baselines=dict(found.baselines),
            beats_baselines=found.beats_baselines,
        )

    def _slices(
        self, metric: Metric, joined: JoinedPredictions, weights: np.ndarray
    ) -> Sequence[SliceComparison]:
        return [
            self._slice(metric, column, value, joined.paired(metric, chosen), weights)
            for column in self._judging.slices
            for value, chosen in joined.slices(column, MOST_SLICES)
        ]

    def _slice(
        self, metric: Metric, column: str, value: str, rows: PairedRows, weights: np.ndarray
    ) -> SliceComparison:
        candidate = champion = interval = None
        if len(rows.actual) >= LEAST_SLICE_ROWS:
            try:
                require_decidable(metric, rows.actual)
                loss = loss_of(metric)
                candidate = rounded_value(loss(rows.actual, rows.candidate))
                champion = rounded_value(loss(rows.actual, rows.champion))
                interval = gain_interval(metric, rows, weights)
            except EvaluationError as error:
                _LOG.warning(
                    "%s is undefined for the slice %s = %s: %s", metric.label, column, value, error.what
                )
        return SliceComparison(
            column=column,
            value=value,
            rows=len(rows.actual),
            candidate=candidate,
            champion=champion,
            is_worse=interval is not None and interval.high < -self._judging.margin,
        )


def _gain(metric: Metric, rows: PairedRows) -> float:
    loss = loss_of(metric)
    candidate, champion = loss(rows.actual, rows.candidate), loss(rows.actual, rows.champion)
    return float(gain_of(metric, np.array(candidate), np.array(champion)))
