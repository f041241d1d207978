"""Jobs may read exactly their declared sources and externally trained models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.permissions import role_definitions
from infra.permissions.policy_statements import RoleDefinition, Statement
from infra.permissions.source_rights import SourceRightsError, source_statements
from infra.permissions.wildcards import UnexplainedWildcardError, wildcard_reasons
from prediction_contract.jobs.model_inputs import ModelInputs, Source, TrainedElsewhere
from prediction_contract.naming.resource_names import Deployment
from tests.infra.role_rights import allows

DEPLOYMENT = Deployment("prod", "123456789012", "eu-west-1")
DATA, LAKE = DEPLOYMENT.data_bucket_arn, "arn:aws:s3:::acme-lake"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
INLINE_POLICY_LIMIT = 10_240


def source(name: str = "orders", **members: Any) -> Source:
    """Return a source, in Parquet by default."""
    return Source(name=name, **{"format": "parquet", **members})


def model(*sources: Source, name: str = "churn", **members: Any) -> ModelInputs:
    """Return a model's inputs."""
    return ModelInputs(model=name, functions=f"acme.defs.{name}", sources=sources, **members)


def granted(statements: tuple[Statement, ...]) -> RoleDefinition:
    """Return a role with these statements only."""
    return RoleDefinition("jobs", "sagemaker.amazonaws.com", None, statements)


def listed(statements: tuple[Statement, ...]) -> dict[str, list[str]]:
    """Return the prefixes that may be listed, by bucket."""
    return {
        bucket: each["Condition"]["StringLike"]["s3:prefix"]
        for each in statements
        if each["Action"] == ["s3:ListBucket"] and "StringLike" in each["Condition"]
        for bucket in each["Resource"]
    }


@pytest.mark.parametrize(
    ("path", "form", "read", "prefix", "not_read"),
    [
        (
            "raw/orders/dt={date}/*.parquet",
            "parquet",
            "raw/orders/dt=2013-02-01/part-0.parquet",
            "raw/orders/dt=*",
            "raw/orders/secret.parquet",
        ),
        ("raw/{hour}/x.csv", "csv", "raw/05/x.csv", "raw/*", "rawer/05/x.csv"),
        ("raw/all-*.jsonl", "jsonl", "raw/all-1.jsonl", "raw/all-*", "raw/al-1.jsonl"),
        ("static/rates.csv", "csv", "static/rates.csv", "static/rates.csv", "static/rates.csv.bak"),
        (
            "tables/rates",
            "delta",
            "tables/rates/_delta_log/0.json",
            "tables/rates/*",
            "tables/rates2/a.parquet",
        ),
        (
            "tables/rates/",
            "delta",
            "tables/rates/part-0.parquet",
            "tables/rates/*",
            "tables/rates2/a.parquet",
        ),
        ("tables/dt={date}", "delta", "tables/dt=2013-02-01/_delta_log/0.json", "tables/dt=*", "tables/x"),
        (
            "raw/orders-{date}.csv",
            "csv",
            "raw/orders-2013-02-01.csv",
            "raw/orders-????-??-??*",
            "raw/orders-secret/x.csv",
        ),
        ("raw/o{hour}/x.csv", "csv", "raw/o05/x.csv", "raw/o??*", "raw/o"),
        (
            "raw/orders{partition}/x.csv",
            "csv",
            "raw/orders2013-W06/x.csv",
            "raw/orders????-*",
            "raw/orders-secret/x.csv",
        ),
        (
            "raw/flights/dt={date}/f.csv.gz",
            "reader",
            "raw/flights/dt=1/f.csv.gz",
            "raw/flights/dt=*",
            "raw/x",
        ),
    ],
)
def test_source_grants_only_the_prefix_of_its_path(
    path: str, form: str, read: str, prefix: str, not_read: str
) -> None:
    """Keys with another prefix cannot be read, and no key can be written."""
    statements = source_statements(DEPLOYMENT, [model(source(format=form, path=path))])
    role = granted(statements)
    assert allows(role, "s3:GetObject", f"{DATA}/{read}")
    assert not allows(role, "s3:GetObject", f"{DATA}/{not_read}")
    assert not allows(role, "s3:PutObject", f"{DATA}/{read}")
    assert listed(statements) == {DATA: [prefix]}
    assert all(all(wildcard_reasons(DEPLOYMENT, each).values()) for each in role.statements)


def test_delta_table_without_checkpoint_can_be_opened() -> None:
    """S3 reports a missing key as forbidden unless its bucket may be listed, so a table's bucket may."""
    table = source("rates", format="delta", path="rates", bucket="acme-lake")
    statements = source_statements(DEPLOYMENT, [model(source(path="raw/a={date}/x"), table)])
    (missing,) = [each for each in statements if "Null" in each.get("Condition", {})]
    assert (missing["Action"], missing["Resource"]) == (["s3:ListBucket"], [LAKE])
    assert missing["Condition"] == {"Null": {"s3:prefix": "true"}}


def test_model_without_sources_gets_no_rights() -> None:
    """The jobs' role cannot read `raw/` unless a source needs it."""
    assert source_statements(DEPLOYMENT, [model()]) == ()
    role = role_definitions.sagemaker_role(DEPLOYMENT, ())
    assert not allows(role, "s3:GetObject", f"{DATA}/raw/orders/x.csv")


def test_other_buckets_are_read_by_prefix_and_key() -> None:
    """Each bucket has its own listed prefixes, and only KMS keys of used buckets may decrypt."""
    statements = source_statements(
        DEPLOYMENT,
        [model(source(path="raw/a={date}/x"), source("rates", bucket="acme-lake", path="rates/{date}.csv"))],
        {"acme-lake": KEY, "acme-attic": KEY.replace("1234abcd", "0000aaaa")},
    )
    role = role_definitions.sagemaker_role(DEPLOYMENT, statements)
    assert allows(role, "s3:GetObject", f"{LAKE}/rates/2013-02-01.csv")
    assert not allows(role, "s3:GetObject", f"{LAKE}/raw/a=1/x")
    assert listed(statements) == {DATA: ["raw/a=*"], LAKE: ["rates/*"]}
    (decrypt,) = [each for each in statements if each["Action"] == ["kms:Decrypt"]]
    assert decrypt["Resource"] == [KEY]
    assert len({each["Sid"] for each in role.statements}) == len(role.statements)


def test_query_grants_only_its_secret() -> None:
    """A Snowflake source grants its secret, not other secrets and no bucket."""
    query = source("rates", format="snowflake", secret="acme/warehouse", query="select 1")
    statements = source_statements(DEPLOYMENT, [model(query), model(query, name="other")])
    role = role_definitions.sagemaker_role(DEPLOYMENT, statements)
    (read,) = statements
    assert read["Resource"] == [DEPLOYMENT.secret_arn_pattern("acme/warehouse")]
    assert all(wildcard_reasons(DEPLOYMENT, read).values())
    other = DEPLOYMENT.secret_arn_pattern("acme/payroll").replace("??????", "aB3dE9")
    assert not allows(role, "secretsmanager:GetSecretValue", other)


def test_externally_trained_model_grants_only_its_file() -> None:
    """The role may read one key of the model's bucket, without a wildcard."""
    elsewhere = TrainedElsewhere(key="models/churn.ubj", bucket="acme-lake", sha256="0" * 64, codec="xgboost")
    statements = source_statements(DEPLOYMENT, [model(trained_elsewhere=elsewhere)])
    assert [each["Resource"] for each in statements] == [[f"{LAKE}/models/churn.ubj"], [LAKE]]
    assert listed(statements) == {LAKE: ["models/churn.ubj"]}


def test_shared_sources_are_granted_once() -> None:
    """A prefix within another one adds nothing, and the order of models does not matter."""
    models = [
        model(source(path="raw/orders/dt={date}/*.parquet"), name="one"),
        model(source(path="raw/orders/{partition}"), source("again", path="raw/orders/"), name="two"),
        model(source(path="raw/orders/dt={date}/*.parquet"), name="three"),
    ]
    statements = source_statements(DEPLOYMENT, models)
    assert listed(statements) == {DATA: ["raw/orders/*"]}
    assert statements == source_statements(DEPLOYMENT, models[::-1])


@pytest.mark.parametrize("path", ["{date}/x.csv", "*.parquet", "/{date}", "/"])
def test_source_without_fixed_prefix_is_refused(path: str) -> None:
    """It would open the whole bucket, including predictions and other models' data."""
    with pytest.raises(SourceRightsError, match=r"churn: The source orders reads a whole bucket"):
        source_statements(DEPLOYMENT, [model(source(path=path))])


@pytest.mark.parametrize("resource", [f"{DATA}/*", "arn:aws:s3:::*/raw*", f"{DATA}/raw/*/x*", f"{DATA}/ra?*"])
def test_source_does_not_justify_wider_wildcards(resource: str) -> None:
    """A whole bucket, any bucket and a wildcard within a key are refused."""
    with pytest.raises(UnexplainedWildcardError):
        wildcard_reasons(
            DEPLOYMENT, {"Sid": "ReadSources", "Action": ["s3:GetObject"], "Resource": [resource]}
        )


def test_iam_characters_in_a_path_are_escaped() -> None:
    """A question mark in a key is no wildcard, and a dollar sign starts no variable."""
    statements = source_statements(DEPLOYMENT, [model(source(path="raw/a?$/{date}"))])
    assert statements[0]["Resource"] == [f"{DATA}/raw/a${{?}}${{$}}/*"]
    assert all(wildcard_reasons(DEPLOYMENT, statements[0]).values())


def test_too_large_policy_is_refused_before_deployment() -> None:
    """The sources of 45 models fit into IAM's limit with the longest stage name; those of 200 do not."""
    longest = Deployment("production12", "123456789012", "ap-southeast-5")

    def models(count: int) -> list[ModelInputs]:
        return [
            model(source(path=f"raw/team/orders-{number:03}/dt={{date}}/*.parquet"), name=f"m{number}")
            for number in range(count)
        ]

    role = role_definitions.sagemaker_role(longest, source_statements(longest, models(45)))
    assert len(json.dumps(role.policy(), separators=(",", ":"))) <= INLINE_POLICY_LIMIT
    with pytest.raises(SourceRightsError, match=r"The permissions to read the sources of 200 models need"):
        source_statements(longest, models(200))
