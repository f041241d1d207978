"""The states of runs beside which no second one is asked for."""

import dagster as dg

# A run that was made and never queued does nothing: asking for it again is what queues it.
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
