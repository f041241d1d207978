"""A stage decides which buckets and secrets the sources of a project's models may use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infra.local.provisioning.provisioned_sources import ensure_sources
from infra.local.provisioning.provisioned_warehouse import warehouse_connection
from infra.provisioned_models import provisioned_models
from infra.source_access import SourceRefusedError, named_buckets, named_secrets, stage_source_statements
from model_declaration.declaration_files import COMPONENT, DeclarationError
from prediction_contract.naming.resource_names import Deployment
from tests.infra.example_stages import PROD, changed_stage
from tests.projects import new_project

if TYPE_CHECKING:
    from pathlib import Path

    from infra.local.provisioning.clients import Clients
    from model_declaration.project import Project

CHURN: dict[str, Any] = {
    "description": "Who leaves.",
    "partitions": {"start": "2024-01-01"},
    "sources": {
        "orders": {"format": "parquet", "path": "raw/orders/dt={date}/*.parquet", "history": 7},
        "customers": {"format": "delta", "path": "tables/customers", "bucket": "acme-lake"},
        "rates": {
            "format": "snowflake",
            "secret": "acme/warehouse",
            "query": "select day, rate from rates",
            "columns": {"day": "date", "rate": "double"},
        },
    },
    "model": {"path": "models/churn.ubj", "bucket": "acme-models", "sha256": "0" * 64, "codec": "xgboost"},
    "columns": [
        {"name": "entity_id", "type": "string", "nullable": False, "key": True},
        {"name": "score", "type": "double"},
    ],
}


def churn_project(root: Path, **changes: Any) -> Project:
    """Write a project with one model, apply changes to its declaration, and return it."""
    project = new_project(root)
    folder = project.defs / "churn"
    folder.mkdir()
    document = {"type": COMPONENT, "attributes": {**CHURN, **changes}}
    (folder / "defs.yaml").write_text(str(yaml.safe_dump(document, sort_keys=False)), encoding="utf-8")
    return project


def line_of(project: Project, text: str) -> int:
    """Return the number of the only line of the declaration that contains a text."""
    lines = (project.defs / "churn" / "defs.yaml").read_text(encoding="utf-8").splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if text in line]
    return number


def test_disallowed_source_is_refused_with_file_and_line(tmp_path: Path) -> None:
    """All disallowed buckets and secrets are reported at once; the data bucket is always allowed."""
    project = churn_project(tmp_path)
    with pytest.raises(SourceRefusedError) as refused:
        stage_source_statements(PROD, provisioned_models(project))
    file = project.defs / "churn" / "defs.yaml"
    for field, named, text in (
        ("sources.customers.bucket", "the bucket acme-lake", "bucket: acme-lake"),
        ("model.bucket", "the bucket acme-models", "bucket: acme-models"),
        ("sources.rates.secret", "the secret acme/warehouse", "secret: acme/warehouse"),
    ):
        place = f"{file}:{line_of(project, text)} attributes.{field}: stage prod does not allow {named}"
        assert place in str(refused.value)
    assert "orders" not in str(refused.value)
    assert "source_buckets or source_secrets of prod in stages.yaml" in str(refused.value)


def test_allowed_sources_are_granted(tmp_path: Path) -> None:
    """Jobs may read allowed sources and use their KMS keys; allowed buckets without sources stay closed."""
    key = "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    settings = changed_stage(
        source_buckets=[{"name": "acme-lake", "key_arn": key}, {"name": "acme-models"}, {"name": "attic"}],
        source_secrets=["acme/warehouse"],
    )
    statements = stage_source_statements(settings, provisioned_models(churn_project(tmp_path)))
    granted = {each["Sid"]: each["Resource"] for each in statements}
    data = settings.deployment().data_bucket_arn
    assert granted["ReadSources"] == [
        "arn:aws:s3:::acme-lake/tables/customers/*",
        "arn:aws:s3:::acme-models/models/churn.ubj",
        f"{data}/raw/orders/dt=*",
    ]
    assert granted["UseSourceKeys"] == [key]
    assert granted["ReadSourceSecrets"] == [settings.deployment().secret_arn_pattern("acme/warehouse")]
    assert not any("attic" in resource for resources in granted.values() for resource in resources)


def test_data_bucket_may_be_named_explicitly(tmp_path: Path) -> None:
    """A source that names the stage's own data bucket needs no permission of the stage."""
    bucket = PROD.deployment().data_bucket
    source = {"format": "parquet", "path": "raw/orders/{date}.parquet", "bucket": bucket, "history": 7}
    project = churn_project(tmp_path, sources={"orders": source}, model={**CHURN["model"], "bucket": bucket})
    (read, *_) = stage_source_statements(PROD, provisioned_models(project))
    assert all(resource.startswith(f"arn:aws:s3:::{bucket}/") for resource in read["Resource"])


def test_templates_are_refused_in_sources(tmp_path: Path) -> None:
    """Only Dagster fills in templates, so they may not decide what jobs are allowed to read."""
    description = "{{ env('KIND') }}"
    plain = churn_project(tmp_path / "plain", description=description)
    known = churn_project(tmp_path / "known")
    (model,), (same,) = provisioned_models(plain), provisioned_models(known)
    assert model.inputs.sources == same.inputs.sources
    assert model.inputs.trained_elsewhere == same.inputs.trained_elsewhere
    orders = {**CHURN["sources"]["orders"], "path": "{{ env('PLACE') }}/dt={date}/x"}
    hidden = churn_project(tmp_path / "hidden", sources={"orders": orders})
    with pytest.raises(
        DeclarationError, match=r"defs\.yaml:\d+ attributes\.sources: a template is not allowed here"
    ):
        provisioned_models(hidden)
    orders = {**CHURN["sources"]["orders"], "pat": "x"}
    wrong = churn_project(tmp_path / "wrong", sources={"orders": orders}, description=description)
    with pytest.raises(
        DeclarationError, match=r"defs\.yaml:\d+ attributes\.sources\.orders\.pat: Extra inputs"
    ):
        provisioned_models(wrong)


@pytest.mark.stack
def test_local_stack_has_buckets_and_secrets_of_sources(tmp_path: Path, clients: Clients) -> None:
    """Provisioning creates empty buckets and secrets with the local login, and can be repeated."""
    models = provisioned_models(churn_project(tmp_path))
    assert (named_buckets(models), named_secrets(models)) == (
        ("acme-lake", "acme-models"),
        ("acme/warehouse",),
    )
    connection = warehouse_connection(
        Deployment("local", "000000000000", "us-east-1"), host="127.0.0.1", port=9
    )
    s3, secrets = clients.client("s3"), clients.client("secretsmanager")
    for _ in range(2):
        ensure_sources(clients, models, connection)
        held = secrets.get_secret_value(SecretId="acme/warehouse")["SecretString"]
        assert json.loads(held) == connection.secret()
        for bucket in named_buckets(models):
            assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    for bucket in named_buckets(models):
        s3.delete_bucket(Bucket=bucket)
    for secret in named_secrets(models):
        secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
