"""Settings come from the environment, and errors name what is missing or malformed."""

from __future__ import annotations

import pytest

from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.settings import Settings, SettingsError


def test_settings_derive_names_from_the_deployment(minimal_environment: dict[str, str]) -> None:
    """Names missing in the environment follow from stage, account and region."""
    settings = Settings.from_environment(minimal_environment)
    assert settings.data_bucket == "mlpipe-local-data-000000000000-us-east-1"
    assert settings.sagemaker_role_arn == "arn:aws:iam::000000000000:role/mlpipe-local-sagemaker-execution"
    assert settings.code_version == "0123456789abcdef"
    assert settings.provider_url("weather") == "http://127.0.0.1:1"
    assert settings.snowflake.extra == {"port": 1}
    # Waits for Snowflake's answers, locks and statements must end.
    arguments = settings.connector_arguments()
    assert arguments["network_timeout"] == 300
    waits = [
        arguments["session_parameters"][name] for name in ("LOCK_TIMEOUT", "STATEMENT_TIMEOUT_IN_SECONDS")
    ]
    assert all(0 < seconds < 3600 for seconds in waits)


def test_home_region_is_no_serving_region(minimal_environment: dict[str, str]) -> None:
    """Home may be listed among the serving regions, but no pointer has to follow there."""
    minimal_environment["MLPIPE_SERVING_REGIONS"] = "us-east-1 eu-west-1"
    assert Settings.from_environment(minimal_environment).serving_regions == ("eu-west-1",)


def test_silent_services_leave_time_in_a_tick(
    minimal_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retries of all services together take less than Dagster's sixty seconds for a tick."""
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
def test_missing_variable_is_named(minimal_environment: dict[str, str], name: str) -> None:
    """The error names the variable to set."""
    del minimal_environment[name]
    with pytest.raises(SettingsError, match=name.replace("AWS_REGION", "AWS_DEFAULT_REGION")):
        Settings.from_environment(minimal_environment)


@pytest.mark.parametrize(
    ("name", "value"), [("SNOWFLAKE_PORT", "many"), ("MLPIPE_SAGEMAKER_CODE_PREFIX", "code")]
)
def test_malformed_variable_is_named(minimal_environment: dict[str, str], name: str, value: str) -> None:
    """The error names the variable with the invalid value."""
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**minimal_environment, name: value})


def test_provider_without_address_is_named(minimal_environment: dict[str, str]) -> None:
    """The error names the variable to set."""
    with pytest.raises(SettingsError, match="MLPIPE_TIDES_URL"):
        Settings.from_environment(minimal_environment).provider_url("tides")


def test_password_is_not_shown(minimal_environment: dict[str, str]) -> None:
    """The settings' repr can be logged safely."""
    assert "not-to-be-shown" not in repr(Settings.from_environment(minimal_environment))


def test_crlf_line_endings_are_named_in_error(minimal_environment: dict[str, str]) -> None:
    """A shell that reads such a file appends an invisible carriage return to each value."""
    with pytest.raises(SettingsError, match=r"MLPIPE_STAGE contains a carriage return, .* CRLF"):
        Settings.from_environment({**minimal_environment, "MLPIPE_STAGE": "local\r"})
