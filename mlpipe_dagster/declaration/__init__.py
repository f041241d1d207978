"""What a `defs.yaml` declares of a model, typed; every fault is named by its field while Dagster loads."""

from mlpipe_dagster.declaration.cleaning import DeclaredCleaning
from mlpipe_dagster.declaration.columns import DeclaredColumn
from mlpipe_dagster.declaration.compute import Compute
from mlpipe_dagster.declaration.enrichment import DeclaredEnrichment
from mlpipe_dagster.declaration.model import DeclaredPipeline, ModelDeclaration
from mlpipe_dagster.declaration.partitions import DeclaredSchedule, Partitions
from mlpipe_dagster.declaration.quality import Quality
from mlpipe_dagster.declaration.retention import Retention
from mlpipe_dagster.declaration.training import DeclaredMetric, TrainingRange

__all__ = [
    "Compute",
    "DeclaredCleaning",
    "DeclaredColumn",
    "DeclaredEnrichment",
    "DeclaredMetric",
    "DeclaredPipeline",
    "DeclaredSchedule",
    "ModelDeclaration",
    "Partitions",
    "Quality",
    "Retention",
    "TrainingRange",
]
