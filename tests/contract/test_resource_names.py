"""Resource names: within every service's limits, never shared by two models, the same in every region."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.resource_names import (
    Deployment,
    model_name_stem,
    require_distinct_model_names,
)

MODELS = st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True)
# Random names are rarely similar and rarely end with underscores; these often are and do.
CLOSE_MODELS = st.from_regex(r"[a-c][a-c0-2_]{0,3}", fullmatch=True)
STAGES = st.from_regex(r"[a-z][a-z0-9]{0,11}", fullmatch=True)
ACCOUNTS = st.from_regex(r"[0-9]{12}", fullmatch=True)
REGIONS = st.sampled_from(
    ["us-east-1", "eu-central-1", "ap-southeast-5", "us-gov-west-1", "cn-northwest-1", "mx-central-1"]
)
DEPLOYMENTS = st.builds(Deployment, STAGES, ACCOUNTS, REGIONS)

BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
TABLE = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
RULE = re.compile(r"[.\-_A-Za-z0-9]{1,64}")
QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}")
TOPIC = re.compile(r"[A-Za-z0-9_-]{1,256}")
GLUE_JOB = re.compile(r"[A-Za-z0-9_-]{1,255}")
PACKAGE_GROUP = re.compile(r"(?=.{1,63}\Z)[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
ROLE = re.compile(r"[\w+=,.@-]{1,64}")
FUNCTION = re.compile(r"[a-zA-Z0-9_-]{1,64}")
LOAD_BALANCER = re.compile(r"(?!internal-)(?=.{1,32}\Z)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?")
POOL = re.compile(r"[\w\s+=,.@-]{1,128}")
DOMAIN = re.compile(r"(?!.*(aws|amazon|cognito))[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SCOPE_IDENTIFIER = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,256}")
SECRET = re.compile(r"(?!.*-.{6}\Z)[A-Za-z0-9/_+=.@-]{1,512}")
SNOWFLAKE = re.compile(r"[A-Z_][A-Z0-9_]{0,254}")
LOG_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
REPOSITORY = re.compile(r"(?=.{2,256}\Z)[a-z0-9]+(?:[._-][a-z0-9]+)*")
KEY_ALIAS = re.compile(r"alias/(?!aws/)[a-zA-Z0-9/_-]{1,250}")
CLUSTER_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.internal")
DATABASE = re.compile(r"(?!.*--)[a-z][a-z0-9-]{0,62}(?<!-)")
CLUSTER = re.compile(r"[a-zA-Z0-9_-]{1,255}")
ARN = re.compile(r"arn:aws(-cn|-us-gov)?:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12})?:\S+")


def names_with_limits(deployment: Deployment, model: str) -> list[tuple[str, re.Pattern[str]]]:
    """Return every name with the pattern that its service accepts."""
    return [
        (deployment.data_bucket, BUCKET),
        (deployment.registry_table, TABLE),
        (deployment.online_table(model), TABLE),
        (deployment.done_file_rule, RULE),
        (deployment.done_file_queue, QUEUE),
        (deployment.dead_letter_queue, QUEUE),
        (deployment.alarm_topic, TOPIC),
        (deployment.api_alarm_topic, TOPIC),
        (deployment.load_job, GLUE_JOB),
        (deployment.model_package_group(model), PACKAGE_GROUP),
        (deployment.job_image_repository, REPOSITORY),
        (deployment.dagster_image_repository, REPOSITORY),
        (deployment.logs_bucket, BUCKET),
        (deployment.api_logs_bucket, BUCKET),
        (deployment.data_key_alias, KEY_ALIAS),
        (deployment.firewall_log_group, LOG_GROUP),
        (deployment.dagster_run_family, CLUSTER),
        (deployment.dagster_namespace, CLUSTER_DOMAIN),
        (deployment.dagster_database_secret, SECRET),
        (deployment.dagster_cluster, CLUSTER),
        *((role, ROLE) for role in deployment.roles),
        (deployment.api_function, FUNCTION),
        (deployment.api_load_balancer, LOAD_BALANCER),
        (deployment.user_pool, POOL),
        (deployment.resource_server, SCOPE_IDENTIFIER),
        (deployment.token_client, POOL),
        (deployment.token_domain, DOMAIN),
        (deployment.snowflake_secret, SECRET),
        (deployment.token_client_secret, SECRET),
        (deployment.provider_secret(model), SECRET),
        (deployment.snowflake_database, SNOWFLAKE),
        (deployment.snowflake_schema, SNOWFLAKE),
        (deployment.snowflake_warehouse, SNOWFLAKE),
        (deployment.snowflake_stage, SNOWFLAKE),
        (deployment.snowflake_role, SNOWFLAKE),
        (deployment.snowflake_integration, SNOWFLAKE),
        (deployment.api_log_group, LOG_GROUP),
        (deployment.dagster_log_group, LOG_GROUP),
        (deployment.dagster_database_log_group, LOG_GROUP),
        (deployment.dagster_metrics_log_group, LOG_GROUP),
        *((group, LOG_GROUP) for group in deployment.load_log_groups),
        (deployment.dagster_database, DATABASE),
    ]


def names_per_model(deployment: Deployment, model: str) -> list[str]:
    """Return every name that contains the model's, without case where a service may ignore it."""
    return [
        deployment.online_table(model),
        deployment.model_package_group(model).casefold(),
        deployment.provider_secret(model),
        deployment.online_table_arn(model),
        deployment.scoring_pipeline_arn(model).casefold(),
        deployment.scoring_pipeline(model).casefold(),
        model_name_stem(model).casefold(),
    ]


@given(DEPLOYMENTS, MODELS)
def test_names_are_within_service_limits(deployment: Deployment, model: str) -> None:
    """Every service accepts its names for any stage, region and model."""
    refused = [name for name, limit in names_with_limits(deployment, model) if not limit.fullmatch(name)]

    assert refused == []


@given(DEPLOYMENTS, st.one_of(st.tuples(CLOSE_MODELS, CLOSE_MODELS), st.tuples(MODELS, MODELS)))
def test_distinct_models_never_share_a_name(deployment: Deployment, models: tuple[str, str]) -> None:
    """Two different models never share a table, a package group or another name."""
    one, other = models
    assume(one != other)

    pairs = zip(names_per_model(deployment, one), names_per_model(deployment, other), strict=True)

    assert [name for name, same in pairs if name == same] == []


@pytest.mark.parametrize(
    ("model", "group"),
    [
        ("flight_delay", "mlpipe-prod-flight-delay"),
        ("a_", "mlpipe-prod-1-a"),
        ("a__", "mlpipe-prod-2-a"),
        ("a_1", "mlpipe-prod-a-1"),
        ("a" + "_" * 40, "mlpipe-prod-40-a"),
    ],
)
def test_package_groups_count_trailing_underscores(model: str, group: str) -> None:
    """Package groups of models that differ only in trailing underscores stay distinct."""
    assert Deployment("prod", "123456789012", "eu-west-1").model_package_group(model) == group


@given(st.one_of(st.tuples(CLOSE_MODELS, CLOSE_MODELS), st.tuples(MODELS, MODELS)))
def test_name_stems_stay_distinct_with_suffixes(models: tuple[str, str]) -> None:
    """Names built from the stems of two models differ, whatever suffix follows."""
    one, other = map(model_name_stem, models)
    assert (one == other) == (models[0] == models[1])
    assert not one.endswith("_")
    assert one == models[0] or models[0].endswith("_")
    endings = ("_load", "__load", "_score", "__quality", "__trained_model")
    if one != other:
        assert not {f"{one}{ending}" for ending in endings} & {f"{other}{ending}" for ending in endings}


@given(st.lists(CLOSE_MODELS, min_size=2, max_size=6, unique=True))
def test_models_with_equal_cloudformation_ids_are_refused(models: list[str]) -> None:
    """Models whose CloudFormation ids would collide are refused, and the error names their files."""
    files = {model: f"defs/{model}/defs.yaml" for model in models}
    ids = {model: re.sub("[^A-Za-z0-9]", "", f"Packages-{model_name_stem(model)}") for model in models}
    shared = [model for model in models if list(ids.values()).count(ids[model]) > 1]
    if not shared:
        require_distinct_model_names(files)
        return
    with pytest.raises(InvalidNameError) as refused:
        require_distinct_model_names(files)
    named = [model for model in models if f" {model} ({files[model]}) " in str(refused.value)]
    assert len(named) == 2
    assert ids[named[0]] == ids[named[1]]


def test_models_with_trailing_underscores_are_accepted() -> None:
    """Models that differ only in trailing underscores can exist side by side."""
    require_distinct_model_names(
        dict.fromkeys(["churn", "churn_", "churn__", "flight_delay", "flight_delay_"], "defs.yaml")
    )


@pytest.mark.parametrize(
    "provider", ["", "Weather", "a-b", "1a", "api", "token", "jwks", "done_queue", "model_events_queue"]
)
def test_invalid_provider_name_is_refused(provider: str) -> None:
    """A provider is refused if its name is malformed or its variable is one of the platform's own."""
    with pytest.raises(InvalidNameError, match="provider name"):
        Deployment("prod", "123456789012", "eu-west-1").provider_secret(provider)


@given(DEPLOYMENTS, STAGES, MODELS)
def test_stages_share_no_names(deployment: Deployment, stage: str, model: str) -> None:
    """Two stages of one account can exist side by side without a shared name."""
    assume(stage != deployment.stage)
    other = dataclasses.replace(deployment, stage=stage)
    # These two are names within the stage's own database.
    within = {deployment.snowflake_schema, deployment.snowflake_stage}

    ours = {name for name, _ in names_with_limits(deployment, model)} - within
    theirs = {name for name, _ in names_with_limits(other, model)}

    assert ours.isdisjoint(theirs)


@given(DEPLOYMENTS, REGIONS, MODELS)
def test_names_are_the_same_in_every_region(deployment: Deployment, region: str, model: str) -> None:
    """Only the API's log bucket and roles, whose names are global, differ between regions."""
    there = deployment.in_region(region)
    here = [name for name, _ in names_with_limits(deployment, model)]
    away = [name for name, _ in names_with_limits(there, model)]

    differing = [name for name, other in zip(here, away, strict=True) if name != other]

    regional = [deployment.api_logs_bucket, deployment.api_role, deployment.api_deployment_role]
    assert differing == (regional if region != deployment.region else [])
    assert there.home == deployment.home
    assert there.is_home == (region == deployment.region)


def test_bucket_name_contains_account_and_home_region() -> None:
    """A deployment in another region uses the bucket of the account's home region."""
    deployment = Deployment("dev", "123456789012", "us-west-2", home_region="eu-west-1")

    assert deployment.data_bucket == "mlpipe-dev-data-123456789012-eu-west-1"
    assert deployment.data_bucket_arn == "arn:aws:s3:::mlpipe-dev-data-123456789012-eu-west-1"


@given(DEPLOYMENTS, MODELS)
def test_arns_are_well_formed(deployment: Deployment, model: str) -> None:
    """Every ARN has its six parts, in the region's own AWS partition."""
    arns = [
        deployment.data_bucket_arn,
        deployment.registry_table_arn,
        deployment.online_table_arn(model),
        deployment.online_tables_arn_pattern,
        deployment.done_file_rule_arn,
        deployment.done_file_queue_arn,
        deployment.dead_letter_queue_arn,
        deployment.load_job_arn,
        deployment.scoring_pipeline_arn(model),
        deployment.job_image_repository_arn,
        deployment.api_function_arn,
        deployment.secret_arn_pattern(deployment.snowflake_secret),
        deployment.provider_secrets_arn_pattern,
        deployment.log_group_arn(deployment.api_log_group),
        *(deployment.role_arn(role) for role in deployment.roles),
    ]

    assert [arn for arn in arns if not ARN.fullmatch(arn)] == []
    assert {arn.split(":")[1] for arn in arns} == {deployment.partition}


@given(DEPLOYMENTS, MODELS)
def test_online_tables_pattern_excludes_registry(deployment: Deployment, model: str) -> None:
    """The ARN pattern for online tables covers a model's table, but not the registry."""
    prefix = deployment.online_tables_arn_pattern.removesuffix("*")

    assert deployment.online_table_arn(model).startswith(prefix)
    assert not deployment.registry_table_arn.startswith(prefix)


@given(DEPLOYMENTS, MODELS)
def test_replicas_pattern_covers_all_regions(deployment: Deployment, model: str) -> None:
    """The ARN pattern for replicas covers a model's table in any region, but not the registry."""
    pattern = deployment.online_replicas_arn_pattern
    elsewhere = deployment.online_table_arn(model).replace(f":{deployment.region}:", ":xx-east-9:")

    assert fnmatchcase(deployment.online_table_arn(model), pattern)
    assert fnmatchcase(elsewhere, pattern)
    assert not fnmatchcase(deployment.registry_table_arn, pattern)


def test_scope_begins_with_resource_server() -> None:
    """The scope in a token is prefixed with its resource server."""
    deployment = Deployment("local", "000000000000", "us-east-1")

    assert deployment.read_scope == "mlpipe-local-api/predictions:read"


def test_code_archive_key_contains_digest() -> None:
    """A code archive's key contains the deployable and the whole digest; bad digests are refused."""
    deployment = Deployment("local", "000000000000", "us-east-1")

    assert deployment.code_archive_key("glue_scripts", "0f" * 32) == f"code/glue_scripts/{'0f' * 32}.zip"
    with pytest.raises(InvalidNameError, match="digest"):
        deployment.code_archive_key("glue_scripts", "../" + "0" * 61)


def test_training_code_is_outside_processing_prefix() -> None:
    """The training archive is not below the prefix that processing jobs download."""
    deployment, digest = Deployment("local", "000000000000", "us-east-1"), "0f" * 32

    prefix = deployment.code_tree_prefix("sagemaker_scripts", digest)
    assert prefix == f"code/sagemaker_scripts/{digest}/"
    assert deployment.training_code_key(digest) == f"code/sagemaker_scripts/{digest}.tar.gz"
    for name_of in (deployment.training_code_key, lambda bad: deployment.code_tree_prefix("x", bad)):
        with pytest.raises(InvalidNameError, match="digest"):
            name_of("../" + "0" * 61)


@pytest.mark.parametrize("model", ["", "A", "1a", "_a", "a-b", "a" * 42, "a\n", "a/b", "é", "a.b"])
def test_malformed_model_name_is_refused(model: str) -> None:
    """A malformed model name never becomes part of a table's or package group's name."""
    deployment = Deployment("local", "000000000000", "us-east-1")

    for name_of in (deployment.online_table, deployment.model_package_group):
        with pytest.raises(InvalidNameError, match="model name"):
            name_of(model)


@pytest.mark.parametrize(
    ("stage", "account_id", "region", "named"),
    [
        ("Prod", "123456789012", "us-east-1", "stage"),
        ("pre-prod", "123456789012", "us-east-1", "stage"),
        ("p" * 13, "123456789012", "us-east-1", "stage"),
        ("prod", "12345678901", "us-east-1", "account id"),
        ("prod", "\N{FULLWIDTH DIGIT ONE}23456789012", "us-east-1", "account id"),
        ("prod", "123456789012", "us-east", "region"),
        ("prod", "123456789012", "us-east-1\n", "region"),
        ("prod", "123456789012", "", "region"),
    ],
)
def test_malformed_deployment_is_refused(stage: str, account_id: str, region: str, named: str) -> None:
    """A malformed stage, account id or region is refused, and the error says which one."""
    with pytest.raises(InvalidNameError, match=named):
        Deployment(stage, account_id, region)


def test_malformed_home_region_is_refused() -> None:
    """A malformed home region is refused and named in the error."""
    with pytest.raises(InvalidNameError, match="home region"):
        Deployment("prod", "123456789012", "us-east-1", home_region="home")


def test_unknown_role_has_no_arn() -> None:
    """No ARN is made up for a role that the deployment does not own."""
    with pytest.raises(InvalidNameError, match="administrator"):
        Deployment("prod", "123456789012", "us-east-1").role_arn("administrator")


def test_module_needs_only_the_standard_library() -> None:
    """Importing resource names loads no SDK, so any product code can use them."""
    code = (
        "import sys; before = set(sys.modules); import prediction_contract.naming.resource_names;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names - {'prediction_contract'}))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert run.stdout.strip() == "[]"
