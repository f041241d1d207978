"""Tests of declared sources, features and models, and of the inputs document that jobs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from model_declaration.declaration_files import COMPONENT, DeclarationError, declaration_in
from model_declaration.inputs_document import inputs_document
from model_declaration.project import Project
from prediction_contract.jobs.model_inputs import ModelInputs, Source
from tests.dagster.small_model import attributes

ORDERS = {
    "format": "parquet",
    "path": "raw/orders/dt={date}/*.parquet",
    "bucket": "acme-lake",
    "history": 7,
    "columns": {"customer_id": "string", "amount": "decimal(10,2)", "ordered_at": "timestamp"},
    "known_at": "ordered_at",
    "asset": "lake/orders",
}
RATES = {
    "format": "snowflake",
    "secret": "acme/rates",
    "query": "select day, rate from rates where day = %(day)s and name like 'a%%'",
    "parameters": {"day": "{date}"},
    "columns": {"day": "date", "rate": "double"},
}
SHIPS = {"reader": "acme.readers:Ships", "path": "raw/ships/{partition}.xml", "history": 2}
MODEL_FILE = {"path": "trained/churn.ubj", "sha256": "ab" * 32, "codec": "xgboost"}


def project_in(folder: Path, functions: tuple[str, ...] = (), **changes: Any) -> Project:
    """Write a project with one model and return it."""
    (folder / "pyproject.toml").write_text('[tool.mlpipe]\n[tool.dg.project]\nroot_module = "acme"\n')
    home = folder / "src" / "acme" / "defs" / "things"
    home.mkdir(parents=True)
    (folder / "src" / "acme" / "__init__.py").touch()
    declared = {"type": COMPONENT, "attributes": attributes(**changes)}
    (home / "defs.yaml").write_text(str(yaml.safe_dump(declared, sort_keys=False, width=10_000)))
    for function in functions:
        (home / f"{function}.py").touch()
    return Project.at(folder)


def inputs_of(project: Project) -> ModelInputs:
    """Return a model's inputs as its jobs read them."""
    declared = declaration_in(project.defs / "things" / "defs.yaml")
    assert declared is not None
    key, content = inputs_document(declared)
    assert key.startswith("models/things/inputs-")
    return ModelInputs.parse(content)


def refusal_of(folder: Path, functions: tuple[str, ...] = (), **changes: Any) -> str:
    """Return the error for an invalid declaration, after checking that it names the file."""
    project = project_in(folder, functions=functions, **changes)
    path = project.defs / "things" / "defs.yaml"
    with pytest.raises(DeclarationError) as caught:
        declaration_in(path)
    text = str(caught.value)
    assert f"{path}:" in text
    return text


def test_inputs_are_passed_to_jobs_completely(tmp_path: Path) -> None:
    """Jobs get sources, functions and codecs complete and in order, without what only Dagster needs."""
    project = project_in(
        tmp_path,
        functions=("features", "outcomes", "train", "predict"),
        sources={"orders": ORDERS, "rates": RATES, "ships": SHIPS},
        tables="polars",
        codecs=["acme.codecs:Detector"],
        lookback=7,
    )
    inputs = inputs_of(project)
    assert [source.name for source in inputs.sources] == ["orders", "rates", "ships"]
    assert inputs.sources[0] == Source(
        name="orders",
        format="parquet",
        path="raw/orders/dt={date}/*.parquet",
        bucket="acme-lake",
        history=7,
        columns=(("customer_id", "string"), ("amount", "decimal(10,2)"), ("ordered_at", "timestamp")),
        known_at="ordered_at",
    )
    assert inputs.sources[1].parameters == (("day", "{date}"),)
    assert (inputs.sources[2].format, inputs.sources[2].reader) == ("reader", "acme.readers:Ships")
    assert (inputs.functions, inputs.tables, inputs.outcomes) == ("acme.defs.things", "polars", True)
    assert (inputs.codecs, inputs.prepared, inputs.trained_elsewhere) == (
        ("acme.codecs:Detector",),
        None,
        None,
    )


def test_whole_is_passed_only_when_declared(tmp_path: Path) -> None:
    """Only a model with `scoring.whole` has it in its inputs document, so other documents keep their keys."""
    told_whole = []
    for name, scoring in (("whole", {"whole": True}), ("chunks", {"chunk_rows": 5000}), ("plain", {})):
        (tmp_path / name).mkdir()
        project = project_in(tmp_path / name, scoring=scoring)
        declared = declaration_in(project.defs / "things" / "defs.yaml")
        assert declared is not None
        told_whole.append((inputs_of(project).whole, b"whole" in inputs_document(declared)[1]))
    assert told_whole == [(True, True), (False, False), (False, False)]


def test_prepared_features_and_model_file_are_passed(tmp_path: Path) -> None:
    """A model may take a source's rows as features and a file with its digest as the model."""
    project = project_in(
        tmp_path,
        training=None,
        sources={"orders": ORDERS},
        features={"from": "orders", "key": "customer_id"},
        model=MODEL_FILE,
    )
    inputs = inputs_of(project)
    assert (inputs.prepared, inputs.entity, inputs.outcomes) == ("orders", "customer_id", False)
    assert inputs.trained_elsewhere is not None
    assert (inputs.trained_elsewhere.key, inputs.trained_elsewhere.codec) == ("trained/churn.ubj", "xgboost")


@pytest.mark.parametrize(
    ("path", "beginning"),
    [
        ("raw/orders/dt={date}/*.parquet", "raw/orders"),
        ("raw/orders-{date}.csv", "raw"),
        ("tables/orders", "tables/orders"),
        ("raw/*/orders.csv", "raw"),
        ("", ""),
    ],
)
def test_fixed_folders_of_a_path_are_found(path: str, beginning: str) -> None:
    """The folders before a placeholder or wildcard are found, for permissions and asset keys."""
    assert Source(name="orders", format="parquet", path=path).beginning == beginning


def without(source: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Return a source without some of its fields."""
    return {name: value for name, value in source.items() if name not in fields}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (ORDERS | {"path": "raw/{day}/x.parquet"}, "orders.path: {day} is not a placeholder"),
        (ORDERS | {"path": "raw/{date/x.parquet"}, "orders.path: a brace is not part of"),
        (ORDERS | {"path": "dt={date}/x.parquet"}, "orders.path: it begins with a placeholder"),
        (ORDERS | {"path": "/raw/x.parquet"}, "orders.path: '/raw/x.parquet' is not a safe key"),
        (ORDERS | {"path": "raw/{hour}.parquet"}, "orders.path: a daily partition has no {hour}"),
        (ORDERS | {"bucket": "s3://lake"}, "orders.bucket: 's3://lake' is not the name"),
        (
            ORDERS | {"known_at": "noticed_at"},
            "orders.known_at: noticed_at is not one of this source's columns",
        ),
        (ORDERS | {"known_at": "amount"}, "orders.known_at: amount is a decimal(10,2), not a timestamp"),
        (ORDERS | {"columns": {"amount": "number"}}, "orders.columns.amount: "),
        (ORDERS | {"history": -1}, "orders.history: Input should be greater than or equal to 0"),
        (ORDERS | {"asset": "lake//orders"}, "orders.asset: it is not an asset key"),
        (ORDERS | {"query": "select 1"}, "orders.query: Extra inputs are not permitted"),
        (without(ORDERS, "path"), "orders.path: Field required"),
        (without(ORDERS, "format"), "orders.format: it is missing: use one of parquet, csv"),
        (ORDERS | {"format": "xml"}, "orders.format: xml is not known: use one of parquet, csv"),
        (without(ORDERS, "columns") | {"format": "csv"}, "orders.columns: they are missing, and a text file"),
        ({"format": "delta", "path": "tables/*"}, "orders.path: a Delta table is one folder"),
        (without(RATES, "columns"), "orders.columns: they are missing, and a result without rows"),
        (RATES | {"parameters": {}}, "orders.parameters: the query names day, which is not a parameter"),
        (
            RATES | {"parameters": {"day": "{date}", "hue": "red"}},
            "orders.parameters.hue: the query does not use it: write %(hue)s",
        ),
        (RATES | {"query": "select %(day)s where a like 'b%'"}, "orders.query: write % as %%, except in"),
        (RATES | {"parameters": {"day": "{hour}"}}, "orders.parameters.day: a daily partition has no {hour}"),
        (SHIPS | {"reader": "acme.readers"}, "orders.reader: it is not written as acme.readers:Orders"),
        ("raw/orders", "orders: a source needs fields, such as {format: parquet"),
    ],
)
def test_source_error_names_its_field(tmp_path: Path, source: Any, fault: str) -> None:
    """An error in a source names the field of the source's format."""
    assert f" attributes.sources.{fault}" in refusal_of(tmp_path, sources={"orders": source})


@pytest.mark.parametrize("name", ["Orders", "class", "partition", "previous", "2nd", "a-b"])
def test_source_name_that_is_no_argument_is_refused(tmp_path: Path, name: str) -> None:
    """A source name that cannot be an argument of the model's functions is refused."""
    fault = refusal_of(tmp_path, sources={name: ORDERS})
    assert f" attributes.sources.{name}: {name} cannot name a source" in fault


def test_nested_source_error_names_its_line(tmp_path: Path) -> None:
    """An error in one of a source's columns names that column's line."""
    sources = {"orders": ORDERS | {"columns": {"id": "string", "amount": "money", "ordered_at": "timestamp"}}}
    project = project_in(tmp_path, sources=sources)
    path = project.defs / "things" / "defs.yaml"
    line = path.read_text().splitlines().index("        amount: money") + 1
    with pytest.raises(DeclarationError) as caught:
        declaration_in(path)
    assert f"{path}:{line} attributes.sources.orders.columns.amount: " in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"features": {"from": "ships", "key": "id"}},
            "features.from: ships is not declared; the sources are",
        ),
        ({"features": {"from": "orders", "key": "id"}}, "features.key: id is not a column of orders"),
        ({"features": {"source": "orders", "key": "id"}}, "features.from: Field required"),
        ({"training": None}, "training: it is missing, and so is `model`"),
        ({"model": MODEL_FILE}, "model: the model is trained here: remove `model` or `training`"),
        ({"training": None, "model": MODEL_FILE | {"sha256": "AB"}}, "model.sha256: it is not a SHA-256"),
        (
            {"training": None, "model": MODEL_FILE | {"codec": "joblib"}},
            "model.codec: codec joblib is unknown: ",
        ),
        ({"training": None, "model": MODEL_FILE | {"path": "../x"}}, "model.path: '../x' is not a safe key"),
        ({"tables": "duckdb"}, "tables: Input should be 'pandas', 'polars' or 'arrow'"),
        ({"requirements": "../boosting"}, "requirements: it is not the name of a lock"),
        ({"requirements": "my-boosting"}, "requirements: it is not the name of a lock"),
        ({"codecs": ["Detector"]}, "codecs.0: it is not written as acme.readers:Orders"),
        ({"codecs": ["acme..codecs:Detector"]}, "codecs.0: it is not written as acme.readers:Orders"),
    ],
)
def test_error_across_sections_names_its_field(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    """Contradictions between sources, features, model and training name the field to correct."""
    assert f" attributes.{fault}" in refusal_of(tmp_path, sources={"orders": ORDERS}, **changes)


def test_lookback_beyond_source_history_is_refused(tmp_path: Path) -> None:
    """With outcomes, a lookback beyond the sources' history is refused, unless one source has all rows."""
    partitioned = {"orders": ORDERS, "ships": SHIPS}
    fault = refusal_of(tmp_path, functions=("outcomes",), sources=partitioned, lookback=8)
    assert (
        "attributes.lookback: the previous batch may lie 8 partitions back, but the longest history" in fault
    )
    for number, (functions, sources) in enumerate(
        [((), partitioned), (("outcomes",), partitioned | {"all": {"format": "delta", "path": "tables/all"}})]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert inputs_of(project_in(folder, functions=functions, sources=sources, lookback=8))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({**ORDERS, "known_at": None}, "path"),
        (RATES, "parameters.day"),
        ({**ORDERS, "known_at": None, "path": "raw/dt={date}/hour={hour}.parquet"}, None),
        (ORDERS, None),
        (SHIPS | {"path": "raw/ships/{date}.xml"}, None),
    ],
)
def test_hourly_model_with_daily_source_is_refused(
    tmp_path: Path, source: dict[str, Any], fault: str | None
) -> None:
    """An hourly model may read a whole day's data only with `known_at` or a reader."""
    declared = {name: value for name, value in source.items() if value is not None}
    hours = {
        "partitions": {"kind": "hourly", "start": "2013-01-01T00"},
        "sources": {"source": declared},
    }
    if fault is None:
        assert inputs_of(project_in(tmp_path, **hours))
    else:
        assert f"attributes.sources.source.{fault}: a whole day holds data later" in refusal_of(
            tmp_path, **hours
        )
