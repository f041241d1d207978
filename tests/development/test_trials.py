"""`mlpipe try` reports the row, the reason and the line that a model's author needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.development.copied_projects import CopiedProject


def test_quarantined_rows_are_reported_with_reasons(
    first: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """Invalid rows are listed, and so is the refusal of a batch with too many of them."""
    first.write(
        "defs/revenue/predict.py",
        "import pandas as pd\n\n\ndef predict(features, model, previous):\n"
        "    return pd.DataFrame({'station': ['a', 'b', 'b', None, 'c'],\n"
        "                         'expected_amount': [1.5, 2.0, 3.0, 4.0, float('nan')]})\n",
    )
    status, document = first.json(capfd, "try", "revenue")
    assert status == 1
    assert [(each["row"], each["reason"], each["what"]) for each in document["quarantined"]] == [
        (2, "duplicate_key", "Another row has the same key"),
        (3, "duplicate_key", "Another row has the same key"),
        (4, "missing_key", "The row has no station"),
        (5, "not_a_number", "expected_amount: NaN is not a JSON number"),
    ]
    assert document["stored"] == ['{"expected_amount":1.5,"station":"a"}']
    assert document["batch_fault"] == "4 of 5 rows were refused, and 0 may be"


def test_missing_prediction_is_a_batch_fault(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A trial fails where the score job would fail, with the same message."""
    first.change("defs/revenue/predict.py", "return pd", "features = features.iloc[1:]\n    return pd")
    status, document = first.json(capfd, "try", "revenue")
    assert status == 1
    assert document["quarantined"] == []
    assert document["batch_fault"] == "predict returned no prediction for row 1 of the features"


def test_error_shows_only_the_projects_lines(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """The error names function and partition, and omits the platform's lines."""
    first.write(
        "defs/revenue/features.py",
        "def features(partition, sales):\n    return helper(sales)\n\n\n"
        "def helper(sales):\n    return sales['no such column']\n",
    )
    status, document = first.json(capfd, "try", "revenue", "--partition", "2026-02")
    error = document["error"]
    assert status == 1
    assert "features in first.defs.revenue.features failed for" in error["what"]
    assert "KeyError: 'no such column'" in error["what"]
    assert error["lines"] == [
        "first/defs/revenue/features.py:2 in features: return helper(sales)",
        "first/defs/revenue/features.py:6 in helper: return sales['no such column']",
    ]


def test_prints_of_functions_go_to_stderr(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output stays one JSON document."""
    first.change(
        "defs/churn/predict.py", "    known =", "    print('looked at', len(features), 'rows')\n    known ="
    )
    capfd.readouterr()
    assert main(["try", "churn", "--json"], DeploymentAccess(first.project)) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("{")
    assert "looked at 50 rows" in printed.err


def test_sensitive_values_are_not_shown(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A sensitive column is listed without its values."""
    first.change("defs/churn/defs.yaml", "type: double}", "type: double, sensitive: true}")
    _, document = first.json(capfd, "try", "churn", "--rows", "1")
    assert document["stored"] == ['{"churn_probability":"(sensitive)","customer_id":"C0"}']


def test_other_data_can_be_tried(
    first: CopiedProject, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`--data` reads a folder with the layout of the data bucket in place of the sample data."""
    first.json(capfd, "try", "churn")
    (first.project.state_folder / "sample_data").rename(tmp_path / "elsewhere")
    status, document = first.json(capfd, "try", "churn", "--data", str(tmp_path / "elsewhere"))
    assert (status, document["partition"]) == (0, "2026-W11")
    assert not (first.project.state_folder / "sample_data").exists()
    capfd.readouterr()
    (tmp_path / "nothing").mkdir()
    assert first.json(capfd, "try", "churn", "--data", str(tmp_path / "nothing"))[0] == 1


def test_queries_are_answered_by_sample_data(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A sample file holds a query's result for a partition, because no SQL runs in a trial."""
    first.change(
        "defs/revenue/defs.yaml",
        '      format: parquet\n      path: "raw/sales/{partition}.parquet"\n',
        "      format: snowflake\n      secret: acme-warehouse\n"
        "      query: select * from sales where month = %(month)s\n"
        '      parameters: {month: "{partition}"}\n',
    )
    _, document = first.json(capfd, "check")
    assert ["queries/sales/<partition>.csv" in each["remedy"] for each in document["faults"]] == [True]
    first.change("sample_data.py", "raw/sales/{month}", "queries/sales/{month}")
    assert first.json(capfd, "check")[0] == 0
    status, document = first.json(capfd, "try", "revenue")
    assert (status, document["partition"], document["rows"]) == (0, "2026-02", 4)


@pytest.mark.parametrize("command", [("try", "demand"), ("check", "demand", "--leaks")])
@pytest.mark.parametrize("partition", ["2026-03-08", "2027-01-01", "2026-03", "2026-03-16T05"])
def test_unknown_partition_is_refused(
    first: CopiedProject, capfd: pytest.CaptureFixture[str], command: tuple[str, ...], partition: str
) -> None:
    """The error names the model's first partition instead of blaming a function."""
    status, document = first.json(capfd, *command, "--partition", partition)
    assert status == 1
    error = document["error"] if command[0] == "try" else document["leaks"][0]["error"]
    assert (
        f"{partition} is not a partition of demand: `partitions` in its defs.yaml begin with 2026-03-09"
        in error["what"]
    )


def test_partition_without_data_is_reported(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """The error names the source and the partition."""
    status, document = first.json(capfd, "try", "churn", "--partition", "2026-W40")
    assert status == 1
    assert "Source customers has no data for 2026-W40" in document["error"]["what"]


def test_trial_trains_on_earlier_partitions(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A trial trains on a few partitions and evaluates on the last ones before the tried one."""
    _, document = first.json(capfd, "try", "demand", "--partition", "2026-03-18")
    assert document["training"]["partitions"] == [f"2026-03-{day}" for day in (11, 12, 13, 14, 15)]
    assert document["evaluated_on"] == ["2026-03-16", "2026-03-17"]
    assert "mae" in {each["name"] for each in document["metrics"]}
    _, alone = first.json(capfd, "try", "demand", "--partition", "2026-03-09")
    assert alone["training"]["partitions"] == [f"2026-03-{day:02}" for day in (9, 10, 11, 12, 13)]
    assert alone["evaluated_on"] == []
