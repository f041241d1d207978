"""Job and op names of models are valid in Dagster and never clash."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import model_definitions, platform_definitions
from model_declaration.declaration_files import DeclarationError
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.resource_names import model_name_stem, validated_provider_name
from tests.contract.test_resource_names import CLOSE_MODELS, MODELS
from tests.dagster.model_folder import package_of
from tests.dagster.small_model import declaration
from tests.declaration.test_declaration_files import TEXT, write

ROOT = Path(__file__).resolve().parents[3]
DAGSTER_NAME = re.compile("[A-Za-z0-9_]+")


def definitions(*models: str) -> dg.Definitions:
    """Return the definitions of some models together with those that all models share."""
    found = dg.Definitions.merge(*(pipeline_definitions(declaration(model)) for model in models))
    return dg.Definitions.merge(found, platform_definitions(found))


@pytest.fixture(scope="module")
def endings() -> tuple[frozenset[str], frozenset[str]]:
    """Return the endings after a model's stem in job and op names, and the names without a model."""
    repository = definitions("x").get_repository_def()
    names = {job.name for job in repository.get_all_jobs()}
    names |= {node.name for job in repository.get_all_jobs() for node in job.all_node_defs}
    own = {name for name in names if name.startswith("x_")}
    assert {"x_load", "x__load", "x_score", "x_train", "x__features", "x__quality"} <= own
    return frozenset(name[1:] for name in own), frozenset(names - own)


@pytest.mark.parametrize("other", ["churn_", "churn__", "churn__load", "churn_load", "retention"])
def test_models_with_similar_names_load_together(
    minimal_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Dagster resolves all jobs of both models, and each job loads only its model's tables."""
    for name, value in minimal_environment.items():
        monkeypatch.setenv(name, value)
    jobs = {job.name: job for job in definitions("churn", other).get_repository_def().get_all_jobs()}
    for model in ("churn", other):
        layer = jobs[f"{model_name_stem(model)}_load"].asset_layer
        assert {key.path[0] for key in layer.selected_asset_keys} == {model}


@given(st.one_of(st.tuples(CLOSE_MODELS, CLOSE_MODELS), st.tuples(MODELS, MODELS)))
@settings(deadline=None)
def test_job_and_op_names_of_models_never_clash(
    endings: tuple[frozenset[str], frozenset[str]], models: tuple[str, str]
) -> None:
    """They also differ from names without a model, and Dagster accepts all of them."""
    assume(models[0] != models[1])
    follows, without_model = endings
    one, other = ({f"{model_name_stem(model)}{ending}" for ending in follows} for model in models)
    assert not one & other
    assert not (one | other) & without_model
    assert all(map(DAGSTER_NAME.fullmatch, one | other))


def test_plain_model_names_keep_their_job_names(endings: tuple[frozenset[str], frozenset[str]]) -> None:
    """Runs of earlier releases are still found under the same jobs."""
    follows, _ = endings
    assert {f"flight_delay{ending}" for ending in follows} >= {
        "flight_delay_load",
        "flight_delay__load",
        "flight_delay__features",
    }


def test_models_with_equal_aws_names_are_refused_with_their_files(tmp_path: Path) -> None:
    """The code location fails with both models and files before anything is deployed."""
    first, second = (write(tmp_path, name, TEXT) for name in ("ab", "a_b"))
    with pytest.raises(DeclarationError) as refused:
        model_definitions(package_of(tmp_path / "defs"), tmp_path)
    assert f"Models a_b ({second}) and ab ({first})" in str(refused.value)


def test_provider_cannot_take_a_platform_variable() -> None:
    """Provider names that would use a URL variable of the product are refused."""
    packages = ("api_lambda", "infra", "mlpipe_dagster", "model_declaration", "prediction_contract")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    read = {
        name.lower()
        for path in sources
        for name in re.findall("MLPIPE_([A-Z][A-Z_]*)_URL", path.read_text(encoding="utf-8"))
    }
    assert read == {"api", "done_queue", "jwks", "model_events_queue", "token"}
    for name in read:
        with pytest.raises(InvalidNameError, match="the platform's own"):
            validated_provider_name(name)
