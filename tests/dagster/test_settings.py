"""The settings say what the environment says, and name what is missing."""

from __future__ import annotations

import pytest

from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.settings import Settings, SettingsError


def test_settings_take_names_from_the_deployment(minimal_environment: dict[str, str]) -> None:
    """What the environment leaves out follows from stage, account and region."""
    settings = Settings.from_environment(minimal_environment)
    assert settings.data_bucket == "mlpipe-local-data-000000000000-us-east-1"
    assert settings.sagemaker_role_arn == "arn:aws:iam::000000000000:role/mlpipe-local-sagemaker-execution"
    assert settings.code_version == "0123456789abcdef"
    assert settings.provider_url("weather") == "http://127.0.0.1:1"
    assert settings.snowflake.extra == {"port": 1}
    # Every wait ends, that for an answer of Snowflake too.
    arguments = settings.connector_arguments()
    assert arguments["network_timeout"] == 300
    waits = [
        arguments["session_parameters"][name] for name in ("LOCK_TIMEOUT", "STATEMENT_TIMEOUT_IN_SECONDS")
    ]
    assert all(0 < seconds < 3600 for seconds in waits)


def test_home_is_no_region_that_serves_beside_home(minimal_environment: dict[str, str]) -> None:
    """An environment may name home among the serving regions: nothing has to follow there."""
    minimal_environment["MLPIPE_SERVING_REGIONS"] = "us-east-1 eu-west-1"
    assert Settings.from_environment(minimal_environment).serving_regions == ("eu-west-1",)


def test_a_services_silence_leaves_a_tick_time_for_the_others(
    minimal_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queue, listing, a file and two calls to the registry may hang, and Dagster still gets the cursor."""
    for name, value in minimal_environment.items():
        monkeypatch.setenv(name, value)
    platform = Platform()
    seconds = {}
    for service in ("sqs", "s3", "dynamodb"):
        config = platform.tick_client(service).meta.config
        one_try = max(config.connect_timeout, config.read_timeout)
        seconds[service] = config.retries["total_max_attempts"] * one_try
    assert seconds["sqs"] + 2 * seconds["s3"] + 2 * seconds["dynamodb"] < 60


@pytest.mark.parametrize("name", ["MLPIPE_STAGE", "AWS_REGION", "SNOWFLAKE_ACCOUNT"])
def test_a_missing_variable_is_named(minimal_environment: dict[str, str], name: str) -> None:
    """The error says which variable is not set."""
    del minimal_environment[name]
    with pytest.raises(SettingsError, match=name.replace("AWS_REGION", "AWS_DEFAULT_REGION")):
        Settings.from_environment(minimal_environment)


@pytest.mark.parametrize(
    ("name", "value"), [("SNOWFLAKE_PORT", "many"), ("MLPIPE_SAGEMAKER_CODE_PREFIX", "code")]
)
def test_a_malformed_variable_is_named(minimal_environment: dict[str, str], name: str, value: str) -> None:
    """The error says which variable has another form."""
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**minimal_environment, name: value})


def test_an_unknown_provider_is_named(minimal_environment: dict[str, str]) -> None:
    """Asking for a provider without an address says which variable to set."""
    with pytest.raises(SettingsError, match="MLPIPE_TIDES_URL"):
        Settings.from_environment(minimal_environment).provider_url("tides")


def test_a_password_is_not_shown(minimal_environment: dict[str, str]) -> None:
    """The settings may be logged as they are."""
    assert "not-to-be-shown" not in repr(Settings.from_environment(minimal_environment))


def test_a_file_with_crlf_line_endings_is_called_so(minimal_environment: dict[str, str]) -> None:
    """A shell that reads such a file leaves a carriage return that nobody sees at each value's end."""
    with pytest.raises(SettingsError, match=r"MLPIPE_STAGE contains a carriage return, .* CRLF"):
        Settings.from_environment({**minimal_environment, "MLPIPE_STAGE": "local\r"})
