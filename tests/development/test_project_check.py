"""`mlpipe check` reports all faults of a project at once, with file and line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.development.copied_projects import CopiedProject


def test_all_faults_are_reported_at_once(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Faults in declarations, functions, readers, metrics, imports and locks are in one report."""
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


def test_requirements_with_the_platforms_name_are_reported(
    first: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """The fault says which file to rename."""
    first.project.requirements.mkdir(exist_ok=True)
    (first.project.requirements / "base.in").write_text("six\n")
    status, document = first.json(capfd, "check")
    assert status == 1
    (fault,) = document["faults"]
    assert fault["where"] == str(first.project.requirements)
    assert fault["what"] == "base is the name of the platform's own packages"
    assert fault["remedy"] == "Rename the file in requirements/"


def test_sample_data_must_cover_all_sources(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A model cannot be tried if no partition has data of all its sources."""
    first.change("sample_data.py", 'f"raw/weather/', 'f"raw/forecasts/')
    status, document = first.json(capfd, "check")
    assert status == 1
    assert [each["model"] for each in document["faults"]] == ["demand"]
    assert "lacks weather" in document["faults"][0]["what"]


def test_failing_generator_is_reported(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """The fault names the line of the sample data generator."""
    first.change("sample_data.py", "    dice = random.Random(1)\n", "    dice = random.Rando(1)\n")
    _, document = first.json(capfd, "check")
    assert "sample_data.py:19 in objects" in document["faults"][0]["what"]


def test_stages_are_checked(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Invalid settings and buckets that a stage does not allow are faults; a project needs no stages."""
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
