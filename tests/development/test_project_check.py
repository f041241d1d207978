"""`mlpipe check` names file and line of whatever is wrong with a project, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.development.copied_projects import CopiedProject


def test_all_faults_are_told_at_once(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Declarations, functions, readers, codecs, metrics, packages and locks are looked at together."""
    first.change("defs/churn/defs.yaml", "codec: means", "codec: Means!")
    first.change("defs/dock_load/features.py", "(partition, readings)", "(partition, reading)")
    first.change("readers.py", "class Weather:", "class Forecast:")
    first.change("metrics.py", "def cost(", "def costs(")
    first.write("__init__.py", "import dagster\n")
    first.change("defs/revenue/defs.yaml", "  lookback: 1\n", "  lookback: 1\n  requirements: boosting\n")
    status, document = first.json(capfd, "check")
    folder = str(first.project.package_folder)
    told = {(each["model"], each["where"].removeprefix(folder)): each["what"] for each in document["faults"]}
    assert status == 1
    assert set(told) == {
        ("churn", "/defs/churn/defs.yaml"),
        ("dock_load", "/defs/dock_load/features.py:1"),
        ("demand", "/readers.py"),
        ("demand", "/metrics.py"),
        (None, "/__init__.py:1"),
        (None, str(first.project.requirements)),
    }
    assert "attributes.model.codec" in told["churn", "/defs/churn/defs.yaml"]
    assert "features takes reading" in told["dock_load", "/defs/dock_load/features.py:1"]
    assert "boosting.in" in told[None, str(first.project.requirements)]


def test_sample_data_has_what_trying_needs(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A model whose sources never meet in one partition cannot be tried."""
    first.change("sample_data.py", 'f"raw/weather/', 'f"raw/forecasts/')
    status, document = first.json(capfd, "check")
    assert status == 1
    assert [each["model"] for each in document["faults"]] == ["demand"]
    assert "lacks weather" in document["faults"][0]["what"]


def test_a_generator_that_fails_is_a_fault(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own line is told."""
    first.change("sample_data.py", "    dice = random.Random(1)\n", "    dice = random.Rando(1)\n")
    _, document = first.json(capfd, "check")
    assert "sample_data.py:19 in objects" in document["faults"][0]["what"]


def test_stages_are_judged(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong member is told with its line, and a bucket that no stage allows with the declaration's."""
    stages = first.project.stages_file
    right = stages.read_text()
    stages.write_text(right.replace("monthly_budget_dollars: 600", "monthly_budget_dollars: much"))
    _, document = first.json(capfd, "check")
    assert "stages.yaml:22 prod.monthly_budget_dollars" in document["faults"][0]["what"]
    stages.write_text(right)
    first.change("defs/churn/defs.yaml", "format: parquet,", "format: parquet, bucket: acme-private,")
    _, document = first.json(capfd, "check")
    assert "stage prod does not allow the bucket acme-private" in document["faults"][0]["what"]
    stages.unlink()
    assert first.json(capfd, "check")[0] == 0
