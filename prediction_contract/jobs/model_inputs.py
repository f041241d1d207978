"""The document that tells a job about a model: its sources, functions, tables, metrics and codecs.

It is built from the declaration when a job is started, and stored on S3 under a key with its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from prediction_contract.errors import ContractError
from prediction_contract.jobs.metrics import Metric
from prediction_contract.naming.batch import ModelName

FILE_FORMATS = ("parquet", "csv", "jsonl")
SOURCE_FORMATS = (*FILE_FORMATS, "delta", "snowflake", "reader")
TABLES = ("pandas", "polars", "arrow")
# The built-in codecs of trained objects.
CODECS = ("json", "skops", "xgboost", "lightgbm", "onnx", "safetensors")
# Placeholders in braces: a partition's text, the date of its start, and the hour of its start.
PLACEHOLDERS = ("partition", "date", "hour")


class InvalidInputsError(ContractError):
    """The document of a model's inputs is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Data from which a model's features are made.

    Attributes:
        name: The name under which the model's functions receive it.
        format: One of `SOURCE_FORMATS`.
        path: The S3 key of files or of a Delta table. `{partition}`, `{date}` and `{hour}` are replaced with
            those of a partition, and `*` matches any text without `/`.
        bucket: The bucket; None for the data bucket.
        history: How many earlier partitions are also read.
        columns: The name and type of each column, with the types of predictions; empty for all columns as
            they are.
        known_at: The time column that tells when a row became known; None if there is none.
        query: The query of a `snowflake` source, with `%(name)s` for each parameter.
        parameters: The name and value of each query parameter. Values may have the placeholders of `path`.
        secret: The secret with the connection of a `snowflake` source.
        reader: The class of a `reader` source, as `module:Class`.
    """

    name: str
    format: str
    path: str = ""
    bucket: str | None = None
    history: int = 0
    columns: tuple[tuple[str, str], ...] = ()
    known_at: str | None = None
    query: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    secret: str | None = None
    reader: str = ""

    @property
    def beginning(self) -> str:
        """The path's folder above its first placeholder or `*`, without a final `/`; empty without a path.

        A path without either is returned unchanged: it is one file or the folder of a Delta table.
        """
        fixed = re.split("[{*]", self.path, maxsplit=1)[0]
        return fixed if fixed == self.path else fixed.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedElsewhere:
    """The file of a model that was trained elsewhere.

    Attributes:
        key: The S3 key of the file.
        bucket: The bucket; None for the data bucket.
        sha256: The SHA-256 of the file, in lower-case hex. It is checked before the file is parsed.
        codec: The name of the file's codec.
    """

    key: str
    sha256: str
    codec: str
    bucket: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """The rules by which a retraining compares its candidate with the champion on the model's metrics.

    Attributes:
        slices: Columns of the predictions. The candidate may not be worse for any value of them.
        margin: How much better the candidate must be, as a share of the champion's value.
        is_approved_by_rule: Whether a better candidate is approved without a person.
    """

    slices: tuple[str, ...] = ()
    margin: float = 0.01
    is_approved_by_rule: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInputs:
    """A model's inputs.

    Attributes:
        model: The model's name.
        functions: The package of the model's functions `features`, `outcomes`, `train` and `predict`. Each is
            in the module of the same name; a model may lack some of them.
        sources: The sources that `features` and `outcomes` receive.
        tables: The type of the tables that the functions receive, one of `TABLES`.
        prepared: The source whose rows are used as features unchanged; None to call `features`.
        entity: The column of the prepared features that names the entity. It is renamed to `entity_id`.
        outcomes: Whether the model has the function `outcomes`.
        whole: Whether `predict` is called once with all rows, not with chunks of rows.
        metrics: The metrics that evaluate the model.
        codecs: The project's own codecs, as `module:Class`.
        trained_elsewhere: The file of a model that was trained elsewhere; None for a model trained here.
        judging: How candidates are judged; None for a model without retraining.
    """

    model: str
    functions: str
    sources: tuple[Source, ...] = ()
    tables: str = "pandas"
    prepared: str | None = None
    entity: str | None = None
    outcomes: bool = False
    whole: bool = False
    metrics: tuple[Metric, ...] = ()
    codecs: tuple[str, ...] = ()
    trained_elsewhere: TrainedElsewhere | None = None
    judging: Judging | None = None

    def to_document(self) -> tuple[str, bytes]:
        """Return the S3 key and the content of the document. Both depend only on the inputs."""
        document = asdict(self)
        document["metrics"] = [metric._asdict() for metric in self.metrics]
        # Left out at their defaults, so that documents from before these members existed keep their keys.
        if not self.whole:
            del document["whole"]
        if self.judging is None:
            del document["judging"]
        content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return document_key(self.model, content), content

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the inputs in a document.

        Raises:
            InvalidInputsError: The document is invalid.
        """
        try:
            document = json.loads(content)
            elsewhere, judging = document.pop("trained_elsewhere"), document.pop("judging", None)
            return cls(
                **{
                    **document,
                    "sources": tuple(_source(each) for each in document["sources"]),
                    "metrics": tuple(Metric(**each) for each in document["metrics"]),
                    "codecs": tuple(document["codecs"]),
                    "trained_elsewhere": None if elsewhere is None else TrainedElsewhere(**elsewhere),
                    "judging": None if judging is None else _judging(judging),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InvalidInputsError(
                f"The document of a model's inputs cannot be read: {error}",
                remedy="Start the job with the release of the platform that packaged its code",
            ) from error


def document_key(model: str, content: bytes) -> str:
    """Return the S3 key of a model's document, which has the digest of its content."""
    return f"models/{ModelName(model)}/inputs-{hashlib.sha256(content).hexdigest()[:16]}.json"


def _judging(document: dict[str, Any]) -> Judging:
    return Judging(**{**document, "slices": tuple(map(str, document["slices"]))})


def _source(document: dict[str, Any]) -> Source:
    known = {each.name for each in fields(Source)}
    if unknown := sorted(set(document) - known):
        raise ValueError(f"a source has {unknown[0]}")
    pairs = {name: tuple((str(a), str(b)) for a, b in document[name]) for name in ("columns", "parameters")}
    return Source(**{**document, **pairs})
