"""Tests of sources on the local stack: real S3 requests, Delta tables and the Snowflake protocol."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import snowflake.connector
from deltalake import write_deltalake

from prediction_batches.object_store import ObjectStore, storage_options
from prediction_contract.jobs.job_arguments import FeatureArguments
from prediction_contract.jobs.model_inputs import ModelInputs, Source, TrainedElsewhere
from prediction_contract.manifests.manifest import InputObject
from sagemaker_scripts.features.feature_store import FeatureFolder, feature_set
from sagemaker_scripts.features.preparation import prepared_partition, write_partition
from sagemaker_scripts.sources.source_objects import SourceError, SourceMissingError
from sagemaker_scripts.sources.source_tables import SourceTables
from tests.sagemaker.scoring_jobs import stack_options
from tests.sagemaker.sources.source_reading import DAY, file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sagemaker_scripts.features.feature_store import FeatureSet
    from sagemaker_scripts.sources.source_tables import PartitionSources
    from tests.sagemaker.scoring_jobs import ScoringJobs
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
COLUMNS = (("shop", "string"), ("amount", "decimal(10,2)"), ("sold_at", "timestamp"))
SOLD = [
    {"shop": "O'Hare", "amount": Decimal("1.10"), "sold_at": datetime(2013, 2, 2, 5, tzinfo=UTC)},
    {"shop": "Newark", "amount": None, "sold_at": datetime(2013, 2, 3, 5, tzinfo=UTC)},
]
SCHEMA = pa.schema(
    {"shop": pa.string(), "amount": pa.decimal128(38, 2), "sold_at": pa.timestamp("us", "UTC")}
)


@pytest.fixture
def read(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> Callable[..., PartitionSources]:
    """Return a function that reads one source for partitions and returns the last result."""
    store = ObjectStore(aws_client("s3"), local_stack.environment["MLPIPE_DATA_BUCKET"])

    def read(source: Source, *partitions: str) -> PartitionSources:
        inputs = ModelInputs(model="shops", functions="acme.defs.shops", sources=(source,))
        options = storage_options(local_stack.environment) | stack_options(local_stack.environment)
        secrets = aws_client("secretsmanager")
        with SourceTables(
            inputs,
            store,
            last=(partitions or (DAY,))[-1],
            secret_text=lambda name: secrets.get_secret_value(SecretId=name)["SecretString"],
            storage_options=options,
        ) as tables:
            return [tables.read(partition) for partition in partitions or (DAY,)][-1]

    return read


def test_file_of_another_bucket_is_read_in_ranges_and_recorded(
    read: Callable[..., PartitionSources],
    aws_client: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of another bucket is read in ranges, and its size and ETag are recorded."""
    monkeypatch.setattr("sagemaker_scripts.sources.source_objects._CHUNK", 1000)
    s3, bucket = aws_client("s3"), f"lake-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    rows = [{**SOLD[0], "shop": f"{uuid.uuid4()}"} for _ in range(2000)]
    content = file_of(rows, "parquet", SCHEMA)
    s3.put_object(Bucket=bucket, Key=f"sales/{DAY}.parquet", Body=content)
    source = Source(
        name="sales", format="parquet", bucket=bucket, path="sales/{partition}.parquet", columns=COLUMNS
    )
    found = read(source)
    assert found.tables["sales"].drop_columns("partition").to_pylist() == rows
    (recorded,) = found.reads
    etag = s3.head_object(Bucket=bucket, Key=f"sales/{DAY}.parquet")["ETag"].strip('"')
    assert (recorded.bucket, recorded.size, recorded.etag) == (bucket, len(content), etag)


def test_delta_table_is_read_in_one_recorded_version(
    read: Callable[..., PartitionSources], local_stack: LocalStack
) -> None:
    """The version is recorded, later rows are left out, and a missing table or column is named."""
    name = f"lake/sales-{uuid.uuid4().hex}"
    address = f"s3://{local_stack.environment['MLPIPE_DATA_BUCKET']}/{name}"
    table = pa.Table.from_pylist(SOLD, schema=SCHEMA)
    options = storage_options(local_stack.environment) | stack_options(local_stack.environment)
    for mode in ("append", "append", "overwrite"):
        write_deltalake(address, table, mode=mode, storage_options=options)
    source = Source(name="sales", format="delta", path=name, columns=COLUMNS, known_at="sold_at")
    found = read(source, "2013-02-02", DAY)
    assert found.tables["sales"].to_pylist() == SOLD[:1]
    assert read(source, "2013-02-02").tables["sales"].num_rows == 0
    assert [each.to_document() for each in found.reads] == [
        {
            "source": "sales",
            "bucket": local_stack.environment["MLPIPE_DATA_BUCKET"],
            "key": name,
            "version": 2,
        }
    ]
    undeclared = read(Source(name="sales", format="delta", path=name))
    assert undeclared.tables["sales"].sort_by("shop").to_pylist() == [SOLD[1], SOLD[0]]
    with pytest.raises(SourceError, match=r"sales.* version 2 of source sales has no column shops"):
        read(Source(name="sales", format="delta", path=name, columns=(("shops", "string"),)))
    with pytest.raises(SourceMissingError, match=rf"sales has no data for {DAY} at .*lake/none"):
        read(Source(name="sales", format="delta", path="lake/none"))


@pytest.fixture(scope="module")
def warehouse(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
    """Give the name of a secret with a Snowflake login, and a table of sales."""
    environment = local_stack.environment
    login: dict[str, Any] = {
        name: environment[f"SNOWFLAKE_{name.upper()}"]
        for name in ("account", "user", "password", "host", "protocol", "database", "schema")
    }
    login["port"] = int(environment["SNOWFLAKE_PORT"])
    secret = f"acme/{uuid.uuid4().hex}"
    aws_client("secretsmanager").create_secret(Name=secret, SecretString=json.dumps(login))
    connection = snowflake.connector.connect(**login)
    table = f"{environment['SNOWFLAKE_DATABASE']}.{environment['SNOWFLAKE_SCHEMA']}.SALES_{uuid.uuid4().hex}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"create table {table} (shop varchar, day date, amount number(10,2), sold_at timestamp_tz)"
        )
        for row in SOLD:
            cursor.execute(
                f"insert into {table} values (%s, %s, %s, %s)",
                (
                    row["shop"],
                    row["sold_at"].date(),
                    row["amount"],
                    row["sold_at"].strftime("%Y-%m-%d %H:%M:%S"),
                ),
            )
    yield secret, table
    connection.close()


def query(warehouse: tuple[str, str], **changes: Any) -> Source:
    """Return a Snowflake source that queries a shop's sales of a day, or a changed one."""
    secret, table = warehouse
    given: dict[str, Any] = {
        "name": "sales",
        "format": "snowflake",
        "secret": secret,
        "query": f"select shop, day, amount from {table} where day = %(day)s and shop = %(shop)s",
        "parameters": (("day", "{date}"), ("shop", "O'Hare")),
        "columns": (("shop", "string"), ("day", "date"), ("amount", "decimal(10,2)")),
    }
    return Source(**given | changes)


def test_query_parameters_are_bound(
    read: Callable[..., PartitionSources], warehouse: tuple[str, str]
) -> None:
    """Parameters are bound, not spliced into the query; the query id and the digest of rows are recorded."""
    found = read(query(warehouse, history=1), "2013-02-02", DAY)
    assert found.tables["sales"].to_pylist() == [
        {"shop": "O'Hare", "day": date(2013, 2, 2), "amount": Decimal("1.10"), "partition": "2013-02-02"}
    ]
    documents = [each.to_document() for each in found.reads]
    assert [(each["source"], each["rows"]) for each in documents] == [("sales", 1), ("sales", 0)]
    assert all(each["query_id"] for each in documents)
    again = read(query(warehouse), "2013-02-02").reads[0]
    assert (again.sha256, again.query_id != documents[0]["query_id"]) == (documents[0]["sha256"], True)
    hostile = query(warehouse, parameters=(("day", "{date}"), ("shop", "x' or '1'='1")))
    assert read(hostile, "2013-02-02").tables["sales"].num_rows == 0


def test_query_without_rows_has_declared_types(
    read: Callable[..., PartitionSources], warehouse: tuple[str, str]
) -> None:
    """An empty Snowflake result has no types, so the columns get the declared ones."""
    source = query(warehouse, parameters=(("day", "{date}"), ("shop", "nobody")))
    rows = read(source).tables["sales"]
    assert (rows.num_rows, str(rows.schema.field("amount").type)) == (0, "decimal128(10, 2)")
    assert str(rows.schema.field("day").type) == "date32[day]"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"query": "select 1 as one", "parameters": ()}, "The answer of query .* has no column shop"),
        ({"query": "select nothing", "parameters": ()}, "Snowflake refused the query of source sales: "),
        (
            {"columns": (("shop", "long"),), "parameters": (("day", "2013-02-02"), ("shop", "O'Hare"))},
            "column shop: it is string, but declared as long",
        ),
    ],
)
def test_query_result_unlike_declaration_is_refused(
    read: Callable[..., PartitionSources],
    warehouse: tuple[str, str],
    changes: dict[str, Any],
    complaint: str,
) -> None:
    """A failing query, or a result with a missing or mistyped column, is refused by source and column."""
    with pytest.raises(SourceError, match=complaint):
        read(query(warehouse, **changes))


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("no JSON", "is not a JSON object with account and user"),
        (json.dumps({"account": "a", "user": "u"}), "has neither private_key nor password"),
        (
            json.dumps({"account": "a", "user": "u", "private_key": "PEM-secret"}),
            "is not a PEM key, or does not match its passphrase",
        ),
    ],
)
def test_malformed_secret_is_named_but_not_quoted(
    read: Callable[..., PartitionSources],
    aws_client: Callable[[str], Any],
    warehouse: tuple[str, str],
    document: str,
    complaint: str,
) -> None:
    """The error says what is wrong with a secret without quoting its private key."""
    name = f"acme/{uuid.uuid4().hex}"
    aws_client("secretsmanager").create_secret(Name=name, SecretString=document)
    with pytest.raises(SourceError, match=complaint) as refused:
        read(query(warehouse, secret=name))
    assert "PEM-secret" not in str(refused.value)


def test_job_reads_every_source_format(
    jobs: ScoringJobs, warehouse: tuple[str, str], aws_client: Callable[[str], Any]
) -> None:
    """A real features job reads files of three formats, Delta and Snowflake; its index names all five."""
    s3, lake = aws_client("s3"), f"lake-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=lake)
    for ending in ("parquet", "csv", "jsonl.gz"):
        rows = [{**SOLD[0], "sold_at": SOLD[0]["sold_at"].isoformat(), "amount": "1.10"}]
        content = file_of(SOLD[:1], ending, SCHEMA) if ending == "parquet" else file_of(rows, ending)
        s3.put_object(Bucket=lake, Key=f"sales/dt={DAY}/a.{ending}", Body=content)
    options = storage_options(jobs.environment) | stack_options(jobs.environment)
    write_deltalake(f"s3://{lake}/table", pa.Table.from_pylist(SOLD, schema=SCHEMA), storage_options=options)
    files = [
        Source(
            name=ending.split(".")[0],
            format=ending.split(".")[0],
            bucket=lake,
            path=f"sales/dt={{date}}/*.{ending}",
            columns=COLUMNS,
            known_at="sold_at",
        )
        for ending in ("parquet", "csv", "jsonl.gz")
    ]
    delta = Source(
        name="delta", format="delta", bucket=lake, path="table", columns=COLUMNS, known_at="sold_at"
    )
    day = (("day", "2013-02-02"), ("shop", "O'Hare"))
    sources = (*files, delta, query(warehouse, name="snowflake", parameters=day))
    jobs.upload_script(
        "acme/defs/shops/features.py",
        "import pandas as pd\n"
        "def features(partition, **sources):\n"
        "    found = {name: table['amount'].iloc[0] for name, table in sources.items() if len(table) == 1}\n"
        "    return pd.DataFrame({'entity_id': list(found), 'amount': list(found.values())})\n",
    )
    key, content = ModelInputs(model="shops", functions="acme.defs.shops", sources=sources).to_document()
    s3.put_object(Bucket=jobs.bucket, Key=key, Body=content)
    arguments = FeatureArguments(
        model="shops", partition=DAY, bucket=jobs.bucket, run_id="r", code_version="v", inputs_key=key
    )
    jobs.completed(jobs.start_processing("sagemaker_scripts/prepare_features.py", arguments))
    prepared = feature_set(ObjectStore(s3, jobs.bucket), "shops", DAY)
    rows = prepared.read_features(ObjectStore(s3, jobs.bucket)).to_pylist()
    assert {row["entity_id"]: row["amount"] for row in rows} == dict.fromkeys(
        ("parquet", "csv", "jsonl", "delta", "snowflake"), Decimal("1.10")
    )
    index = json.loads(jobs.content(f"{prepared.prefix}features.json"))
    assert [each["source"] for each in index["sources"]] == [each.name for each in sources]


@pytest.fixture
def prepared(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> Callable[..., FeatureSet]:
    """Return a function that prepares a day's features from the rows of a source."""
    environment = local_stack.environment
    store = ObjectStore(aws_client("s3"), environment["MLPIPE_DATA_BUCKET"])
    options = storage_options(environment) | stack_options(environment)

    def prepared(source: Source, model: str = "shops") -> FeatureSet:
        inputs = ModelInputs(
            model=model, functions="acme.defs.shops", sources=(source,), prepared=source.name, entity="shop"
        )
        with SourceTables(inputs, store, last=DAY, secret_text=str, storage_options=options) as sources:
            folder = FeatureFolder(store, inputs.model, DAY, f"r-{uuid.uuid4().hex}", "v")
            written = write_partition(folder, inputs, sources)
            assert feature_set(store, inputs.model, DAY, written.prefix) == written
            held = prepared_partition(inputs, sources, DAY).features
        read = written.read_features(store).drop_columns("partition")
        assert read.sort_by("entity_id").equals(held.sort_by("entity_id"))
        return written

    return prepared


def test_delta_table_features_are_read_from_its_files(
    prepared: Callable[..., FeatureSet], local_stack: LocalStack, aws_client: Callable[[str], Any]
) -> None:
    """Rows that were known in time are read from the table's own files, with partition and new columns."""
    s3, lake = aws_client("s3"), f"lake-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=lake)
    options = storage_options(local_stack.environment) | stack_options(local_stack.environment)
    start = datetime(2013, 2, 2, tzinfo=UTC)

    def add(first: int, day: int, **columns: Any) -> None:
        numbers = range(first, first + 3)
        rows = pa.table(
            {
                "shop": [f"s{number}" for number in numbers],
                "area": ["north", "south", None],
                "day": pa.array([date(2013, 2, day)] * 3),
                "seen_at": pa.array([start + timedelta(days=day - 2)] * 3, pa.timestamp("us", "UTC")),
                **{name: [value] * 3 for name, value in columns.items()},
            }
        )
        write_deltalake(
            f"s3://{lake}/shops",
            rows,
            mode="append",
            partition_by=["area", "day"],
            schema_mode="merge",
            storage_options=options,
        )

    add(0, 1)
    add(3, 2, score=0.5)
    add(6, 4)
    source = Source(name="shops", format="delta", bucket=lake, path="shops", known_at="seen_at")
    found = prepared(source)
    assert {file.bucket for file in found.features} == {lake}
    assert [file.row_groups for file in found.features] == [(1,)] * 6
    own = s3.list_objects_v2(Bucket=local_stack.environment["MLPIPE_DATA_BUCKET"], Prefix=found.prefix)
    assert [each["Key"] for each in own["Contents"]] == [found.index.key]
    rows = found.read_features(ObjectStore(s3, local_stack.environment["MLPIPE_DATA_BUCKET"])).to_pylist()
    assert {(row["entity_id"], row["area"], row["day"], row["score"]) for row in rows} == {
        (f"s{number}", ("north", "south", None)[number % 3], date(2013, 2, 1 + number // 3), score)
        for number, score in enumerate([None] * 3 + [0.5] * 3)
    }
    columns = (("shop", "string"), ("score", "decimal(5,2)"), ("seen_at", "timestamp"))
    declared = replace(source, columns=columns)
    assert {file.row_groups for file in prepared(declared).features} == {(1,)}


def test_delta_table_with_unsafe_keys_is_copied(
    prepared: Callable[..., FeatureSet], local_stack: LocalStack
) -> None:
    """Delta files with keys that a manifest does not allow, here with a space, are copied."""
    bucket = local_stack.environment["MLPIPE_DATA_BUCKET"]
    options = storage_options(local_stack.environment) | stack_options(local_stack.environment)
    name = f"lake/shops-{uuid.uuid4().hex}"
    rows = pa.table({"shop": ["a", "b"], "area": ["north east", "south"]})
    write_deltalake(f"s3://{bucket}/{name}", rows, partition_by=["area"], storage_options=options)
    found = prepared(Source(name="shops", format="delta", path=name))
    assert [file.object.key for file in found.features] == [f"{found.prefix}features-00000.parquet"]


def test_jobs_prepare_and_score_data_of_another_bucket(
    jobs: ScoringJobs, aws_client: Callable[[str], Any]
) -> None:
    """Features and model are read from another bucket, and the manifest names bucket, key and digest."""
    s3, lake = aws_client("s3"), f"lake-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=lake)
    content = file_of(SOLD, "parquet", SCHEMA)
    s3.put_object(Bucket=lake, Key=f"shops/dt={DAY}/a.parquet", Body=content)
    s3.put_object(Bucket=lake, Key="model.json", Body=b'{"least":1}')
    source = Source(name="sales", format="parquet", bucket=lake, path="shops/dt={date}/*.parquet")
    model = TrainedElsewhere(
        key="model.json", bucket=lake, sha256=hashlib.sha256(b'{"least":1}').hexdigest(), codec="json"
    )
    inputs = ModelInputs(
        model="shops",
        functions="acme.defs.sales",
        sources=(source,),
        prepared="sales",
        entity="shop",
        trained_elsewhere=model,
    )
    jobs.upload_script(
        "acme/defs/sales/predict.py",
        "def predict(features, model, previous):\n"
        "    features['busy'] = features['amount'].notna()\n"
        "    return features[['entity_id', 'busy']]\n",
    )
    columns = [
        {"name": name, "type": kind, "nullable": False}
        for name, kind in (("entity_id", "string"), ("busy", "boolean"))
    ]
    schema = json.dumps({"key": "entity_id", "columns": columns}).encode()
    for key, document in (inputs.to_document(), ("shops.schema.json", schema)):
        s3.put_object(Bucket=jobs.bucket, Key=key, Body=document)
    arguments = FeatureArguments(
        model="shops",
        partition=DAY,
        bucket=jobs.bucket,
        run_id=uuid.uuid4().hex,
        code_version="v",
        inputs_key=inputs.to_document()[0],
    )
    prepared = jobs.completed(jobs.start_processing("sagemaker_scripts/prepare_features.py", arguments))
    result = jobs.scored(
        replace(
            jobs.score_arguments("airport_congestion", DAY),
            model="shops",
            schema_key="shops.schema.json",
            inputs_key=inputs.to_document()[0],
            features_prefix=json.loads(prepared["ExitMessage"])["features_prefix"],
            batch_id="20130203T060000Z-00000001",
        )
    )
    manifest = jobs.manifest(result["manifest_key"])
    assert manifest.row_count == len(SOLD)
    assert manifest.inputs.features[1:] == (
        InputObject(f"shops/dt={DAY}/a.parquet", hashlib.sha256(content).hexdigest(), lake),
    )
