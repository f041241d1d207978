"""What a job must know of a model: its sources, functions, tables, metrics and codecs.

Made of the declaration where a job is started, put on S3 under a name made of its content, read by the job.
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
# The formats of trained objects that need no codec of the project's.
CODECS = ("json", "skops", "xgboost", "lightgbm", "onnx", "safetensors")
# What stands in braces for a partition's text, for the date of its beginning, and for its hour.
PLACEHOLDERS = ("partition", "date", "hour")


class InvalidInputsError(ContractError):
    """The document of a model's inputs has another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Data that a model's features are made of.

    Attributes:
        name: By which the model's functions receive it.
        format: One of `SOURCE_FORMATS`.
        path: Of files or of a Delta table, a key below the bucket; `{partition}`, `{date}` and `{hour}` stand
            for those of a partition, and `*` for any text without `/`.
        bucket: Another bucket than the data bucket; None for that one.
        history: How many partitions before the one that features are made for are read as well.
        columns: Name and type of each column, as predictions have them; empty for those that are there.
        known_at: The time column that says when a row became known; None where nothing says so.
        query: For `snowflake`, with `%(name)s` for each parameter.
        parameters: Name and value of the query's parameters; values may hold the placeholders of `path`.
        secret: The secret that holds the connection for `snowflake`.
        reader: For `reader`, `module:Class`.
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
        """The folder that each of its keys begins with, without a `/` at the end; empty if it has no path.

        A path without placeholders is its own beginning: one file, or the folder of a Delta table.
        """
        fixed = re.split("[{*]", self.path, maxsplit=1)[0]
        return fixed if fixed == self.path else fixed.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedElsewhere:
    """A model that was trained elsewhere, as one file.

    Attributes:
        key: Of the file, below the bucket.
        bucket: Another bucket than the data bucket; None for that one.
        sha256: Of the file, in lower-case hex; it is checked before the file is parsed.
        codec: Its format: a codec's name.
    """

    key: str
    sha256: str
    codec: str
    bucket: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How a retraining judges its candidate beside the champion; the model's metrics say what is compared.

    Attributes:
        slices: Columns of the predictions; for no value of them may the candidate be worse.
        margin: By how much it must be better, as a share of the champion's value.
        is_approved_by_rule: Whether a better candidate is approved without a person.
    """

    slices: tuple[str, ...] = ()
    margin: float = 0.01
    is_approved_by_rule: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInputs:
    """A model's inputs.

    Attributes:
        model: Its name.
        functions: The package that holds `features`, `outcomes`, `train` and `predict`, each in the module of
            its name, as far as the model has them.
        sources: What `features` and `outcomes` receive.
        tables: What the functions receive: one of `TABLES`.
        prepared: The source whose rows are the features as they are, without a function; None for `features`.
        entity: The column of the prepared features that names the entity; it is renamed to `entity_id`.
        outcomes: Whether the model has the function `outcomes`.
        whole: Whether `predict` is called once with everything, not with chunks of rows.
        metrics: By which it is evaluated.
        codecs: The project's own codecs, as `module:Class`.
        trained_elsewhere: Where the model comes from that was not trained here.
        judging: How its candidates are judged; None for a model without retraining.
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
        """Return S3 key and content of the document; the same inputs give the same."""
        document = asdict(self)
        document["metrics"] = [metric._asdict() for metric in self.metrics]
        # Documents that were written before these members existed keep their keys.
        if not self.whole:
            del document["whole"]
        if self.judging is None:
            del document["judging"]
        content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return document_key(self.model, content), content

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the inputs of a document.

        Raises:
            InvalidInputsError: It has another form.
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
                remedy="Start the job by the platform's version that its code was packaged with",
            ) from error


def document_key(model: str, content: bytes) -> str:
    """Return the S3 key of a model's document, which is made of its content."""
    return f"models/{ModelName(model)}/inputs-{hashlib.sha256(content).hexdigest()[:16]}.json"


def _judging(document: dict[str, Any]) -> Judging:
    return Judging(**{**document, "slices": tuple(map(str, document["slices"]))})


def _source(document: dict[str, Any]) -> Source:
    known = {each.name for each in fields(Source)}
    if unknown := sorted(set(document) - known):
        raise ValueError(f"a source has {unknown[0]}")
    pairs = {name: tuple((str(a), str(b)) for a, b in document[name]) for name in ("columns", "parameters")}
    return Source(**{**document, **pairs})
