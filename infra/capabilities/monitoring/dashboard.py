"""The dashboard: the stages of a batch from left to right, then each serving region."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_cloudwatch as cloudwatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aws_cdk as cdk

    from infra.settings import StageSettings

_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 6


def add_dashboard(stack: cdk.Stack, settings: StageSettings, models: Sequence[str]) -> None:
    """Add the dashboard of a stage."""
    deployment = settings.deployment()
    widgets = [*_pipeline(settings, models)]
    for region in settings.regions:
        widgets += _region(settings, region.name, models)
    cloudwatch.CfnDashboard(
        stack,
        "Dashboard",
        dashboard_name=deployment.alarm("predictions"),
        dashboard_body=json.dumps({"widgets": _laid_out(widgets)}),
    )


def _pipeline(settings: StageSettings, models: Sequence[str]) -> list[dict[str, Any]]:
    deployment = settings.deployment()
    home = deployment.region
    queues = (deployment.done_file_queue, deployment.model_events_queue, deployment.dead_letter_queue)
    return [
        _graph(
            "Age of the oldest message by queue",
            home,
            [["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue] for queue in queues],
            statistic="Maximum",
        ),
        _graph(
            "Waiting messages by queue",
            home,
            [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue] for queue in queues],
            statistic="Maximum",
        ),
        _graph(
            "Write units of online tables",
            home,
            [
                ["AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", deployment.online_table(model)]
                for model in models
            ],
        ),
    ]


def _region(settings: StageSettings, region: str, models: Sequence[str]) -> list[dict[str, Any]]:
    deployment = settings.deployment(region)
    alias = f"{deployment.api_function}:{deployment.api_alias}"
    function = ["FunctionName", deployment.api_function, "Resource", alias]
    firewall = ["WebACL", deployment.api_load_balancer]
    by_model = [["mlpipe", "pointer_age", "stage", settings.stage, "model", model] for model in models]
    served = [["mlpipe", "predictions", "stage", settings.stage, "model", model] for model in models]
    return [
        _graph(f"{region}: age of live batches", region, by_model, statistic="Maximum"),
        _graph(f"{region}: predictions served", region, served),
        _graph(
            f"{region}: function",
            region,
            [["AWS/Lambda", metric, *function] for metric in ("Errors", "Throttles", "Invocations")],
        ),
        _graph(
            f"{region}: duration of the function (ms, p99)",
            region,
            [["AWS/Lambda", "Duration", *function]],
            statistic="p99",
        ),
        _graph(
            f"{region}: replication latency",
            region,
            [
                ["AWS/DynamoDB", "ReplicationLatency", "TableName", table, "ReceivingRegion", region]
                for table in map(deployment.online_table, models)
            ],
            statistic="Maximum",
        ),
        _graph(
            f"{region}: requests refused by the firewall",
            region,
            [["AWS/WAFV2", "BlockedRequests", *firewall, "Region", region, "Rule", "ALL"]],
        ),
    ]


def _graph(title: str, region: str, metrics: list[list[str]], *, statistic: str = "Sum") -> dict[str, Any]:
    return {
        "type": "metric",
        "properties": {
            "title": title,
            "region": region,
            "metrics": metrics,
            "stat": statistic,
            "period": 300,
            "view": "timeSeries",
        },
    }


def _laid_out(widgets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    per_row = _COLUMNS // _WIDTH
    return [
        {
            **widget,
            "x": place % per_row * _WIDTH,
            "y": place // per_row * _HEIGHT,
            "width": _WIDTH,
            "height": _HEIGHT,
        }
        for place, widget in enumerate(widgets)
    ]
