"""Two retrainings of the example's model by their real jobs: the second is judged beside the first one's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sagemaker.retraining.retraining_jobs import retraining_jobs

if TYPE_CHECKING:
    from tests.sagemaker.scoring_jobs import ScoringJobs

pytestmark = pytest.mark.stack


def test_a_model_is_retrained_and_judged_beside_its_champion(jobs: ScoringJobs) -> None:
    """Plan, training and judging of a first version, and of a second one a week later."""
    retraining = retraining_jobs(jobs)
    first = retraining.planned("first", "2013-02-14")
    assert (first.first_partition, first.last_partition, first.first_held_out) == (
        "2013-02-06",
        "2013-02-10",
        "2013-02-12",
    )
    assert first.features[-1].partition == "2013-02-15"
    verdict = retraining.judged("first", retraining.trained("first"))
    assert (verdict.better, verdict.approval, verdict.champion_version) == (1, "Approved", 0)
    retraining.crown(verdict)
    second = retraining.planned("second", "2013-02-21")
    assert second.champion is not None
    assert (second.champion.version, second.champion.digest) == (1, verdict.candidate_digest)
    compared = retraining.judged("second", retraining.trained("second"))
    assert compared.candidate_digest != verdict.candidate_digest
    assert compared.champion_version == 1
    assert [each.name for each in compared.metrics] == [
        "mae:expected_delay_minutes",
        "roc_auc:delay_probability",
    ]
    assert all(each.champion is not None and each.gain_low is not None for each in compared.metrics)
    assert [each.column for each in compared.slices] == ["origin"] * 3
    assert min(each.rows for each in compared.slices) > 200
    third = retraining.planned("third", "2013-02-21")
    assert (third.claimed_by, third.features) == ("second", ())
