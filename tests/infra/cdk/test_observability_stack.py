"""Tests of alarms, event rules, dashboard and budget."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from model_declaration.declared_models import deployable_names
from tests.infra.cdk.templates import AWAY, HOME, STACKS, STAGES
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

API = [(stage, region) for stage in STAGES for region in (HOME, AWAY)]
BALANCER = {"LoadBalancer": {"Fn::GetAtt": ["LoadBalancer", "LoadBalancerFullName"]}}
TARGET = {**BALANCER, "TargetGroup": {"Fn::GetAtt": ["Target", "TargetGroupFullName"]}}


def watched(templates: Templates, stage: str, stack: str) -> dict[str, tuple[Any, ...]]:
    """Return metric, dimensions, statistic, threshold and periods of each alarm, by its short name."""
    found = {}
    for each in templates.properties(stage, stack, "AWS::CloudWatch::Alarm"):
        assert each["ComparisonOperator"] == "GreaterThanThreshold"
        assert each["DatapointsToAlarm"] == each["EvaluationPeriods"]
        found[each["AlarmName"].removeprefix(f"mlpipe-{stage}-")] = (
            f"{each['Namespace']}/{each['MetricName']}",
            {one["Name"]: one["Value"] for one in each["Dimensions"]},
            each.get("Statistic") or each["ExtendedStatistic"],
            each["Threshold"],
            each["Period"] // 60,
            each["EvaluationPeriods"],
            each["TreatMissingData"],
        )
    return found


def pointers(stage: str) -> dict[str, tuple[Any, ...]]:
    """Return the expected alarms on the age of live batches, which the API reports."""
    limit = SETTINGS[stage].pointer_hours * 3600
    return {
        f"pointer-age-{model.replace('_', '-')}": (
            *("mlpipe/pointer_age", {"stage": stage, "model": model}),
            *("Maximum", limit, 60, 1, "ignore"),
        )
        for model in deployable_names(EXAMPLE.defs)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_done_files_loads_and_live_batches_have_alarms(templates: Templates, stage: str) -> None:
    """A done file that waits 15 minutes, one dead letter and one failed load each raise an alarm."""
    deployment = SETTINGS[stage].deployment()
    assert watched(templates, stage, "observability") == {
        "done-file-age": (
            *("AWS/SQS/ApproximateAgeOfOldestMessage", {"QueueName": deployment.done_file_queue}),
            *("Maximum", 900, 5, 1, "notBreaching"),
        ),
        "dead-letters": (
            *("AWS/SQS/ApproximateNumberOfMessagesVisible", {"QueueName": deployment.dead_letter_queue}),
            *("Maximum", 0, 5, 1, "notBreaching"),
        ),
        "load-failures": (
            *("AWS/Events/MatchedEvents", {"RuleName": deployment.alarm("failed-loads")}),
            *("Sum", 0, 5, 1, "notBreaching"),
        ),
        **{
            f"undelivered-{rule}": (
                *("AWS/Events/FailedInvocations", {"RuleName": deployment.alarm(rule)}),
                *("Sum", 0, 5, 1, "notBreaching"),
            )
            for rule in ("done-files", "model-events", "failed-loads", "failed-retrainings")
        },
        **pointers(stage),
    }


def undelivered(templates: Templates, stage: str) -> set[str]:
    """Assert that each rule has an alarm on undelivered events, and return the rules' names."""
    rules = {
        each["Name"] for stack in STACKS for each in templates.properties(stage, stack, "AWS::Events::Rule")
    }
    watched_by_alarms = watched(templates, stage, "observability").values()
    assert {
        names["RuleName"]
        for metric, names, *_ in watched_by_alarms
        if metric == "AWS/Events/FailedInvocations"
    } == rules
    return rules


def test_every_event_rule_has_an_alarm_on_lost_events(
    templates: Templates, scored_by_sagemaker: Templates
) -> None:
    """If a target's policy does not admit its rule, all events are lost and only this alarm shows it."""
    for stage in STAGES:
        assert len(undelivered(templates, stage)) == 4
    alarm = SETTINGS["prod"].deployment().alarm
    watched_by_alarms = undelivered(scored_by_sagemaker, "prod")
    assert {alarm("failed-scorings"), alarm("failed-retrainings")} <= watched_by_alarms


@pytest.mark.parametrize(("stage", "region"), API)
def test_api_has_alarms_in_every_region(templates: Templates, stage: str, region: str) -> None:
    """Each region has alarms on errors, latency and throttling, and away from home on its live batch."""
    deployment = SETTINGS[stage].deployment(region)
    alias = {"FunctionName": deployment.api_function, "Resource": f"{deployment.api_function}:live"}
    tables = (deployment.registry_table, *map(deployment.online_table, deployable_names(EXAMPLE.defs)))

    def quiet(metric: str, dimensions: Any, above: int = 0, points: int = 1) -> tuple[Any, ...]:
        return (metric, dimensions, "Sum", above, 5, points, "notBreaching")

    latency = ("AWS/ApplicationELB/TargetResponseTime", BALANCER, "p99", 2, 5, 3, "notBreaching")
    spilled = "AWS/Lambda/ProvisionedConcurrencySpilloverInvocations"
    assert watched(templates, stage, f"api-{region}") == {
        "api-lambda-user-error": quiet("AWS/ApplicationELB/LambdaUserError", TARGET),
        "api-lambda-internal-error": quiet("AWS/ApplicationELB/LambdaInternalError", TARGET),
        "api-5xx": quiet("AWS/ApplicationELB/HTTPCode_Target_5XX_Count", BALANCER, above=5),
        "api-balancer-5xx": quiet("AWS/ApplicationELB/HTTPCode_ELB_5XX_Count", BALANCER, above=5),
        "api-function-errors": quiet("AWS/Lambda/Errors", alias),
        "api-latency": latency,
        "api-function-throttles": quiet("AWS/Lambda/Throttles", alias),
        "api-cold-starts": quiet(spilled, alias, points=3),
        **{
            f"api-throttled-{table.removeprefix(f'mlpipe-{stage}-')}": quiet(
                "AWS/DynamoDB/ReadThrottleEvents", {"TableName": table}, points=2
            )
            for table in tables
        },
        **(pointers(stage) if region == AWAY else {}),
    }


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("stack", ["observability", f"api-{HOME}", f"api-{AWAY}"])
def test_alarms_notify_the_topic_of_their_stack(templates: Templates, stage: str, stack: str) -> None:
    """Alarms notify the topic of their own stack when they start and when they end."""
    topic = templates.one(stage, stack, "AWS::SNS::Topic")["TopicName"]
    region = stack.removeprefix("api-") if stack.startswith("api-") else HOME
    arn = f"arn:aws:sns:{region}:{SETTINGS[stage].account_id}:{topic}"
    for each in templates.properties(stage, stack, "AWS::CloudWatch::Alarm"):
        assert (each["AlarmActions"], each["OKActions"]) == ([arn], [arn])


@pytest.mark.parametrize("stage", STAGES)
def test_failed_load_sends_an_alarm(templates: Templates, stage: str) -> None:
    """Every failed state of a load's job run is sent to the alarm topic."""
    deployment = SETTINGS[stage].deployment()
    rules = templates.properties(stage, "observability", "AWS::Events::Rule")
    (rule,) = [each for each in rules if each["Name"] == deployment.alarm("failed-loads")]
    assert rule["EventPattern"] == {
        "source": ["aws.glue"],
        "detail-type": ["Glue Job State Change"],
        "detail": {"jobName": [deployment.load_job], "state": ["FAILED", "TIMEOUT", "ERROR", "EXPIRED"]},
    }
    assert [each["Arn"] for each in rule["Targets"]] == [deployment.alarm_topic_arn]


@pytest.mark.parametrize("stage", STAGES)
def test_budget_warns_of_forecast_and_actual_spending(templates: Templates, stage: str) -> None:
    """The budget also counts actual spending, because AWS has no forecast in an account's first weeks."""
    settings = SETTINGS[stage]
    found = templates.one(stage, "observability", "AWS::Budgets::Budget")
    budget = found["Budget"]
    assert budget["BudgetLimit"] == {"Amount": settings.monthly_budget_dollars, "Unit": "USD"}
    assert (budget["BudgetType"], budget["TimeUnit"]) == ("COST", "MONTHLY")
    assert budget["CostFilters"] == {"TagKeyValue": [f"user:mlpipe:stage${stage}"]}
    notified = []
    for each in found["NotificationsWithSubscribers"]:
        notification = each["Notification"]
        assert notification["ComparisonOperator"] == "GREATER_THAN"
        assert notification["ThresholdType"] == "PERCENTAGE"
        notified.append((notification["NotificationType"], notification["Threshold"]))
        address = {"SubscriptionType": "SNS", "Address": settings.deployment().alarm_topic_arn}
        assert each["Subscribers"] == [address]
    assert notified == [("FORECASTED", 80), ("FORECASTED", 100), ("ACTUAL", 100)]


@pytest.mark.parametrize("stage", STAGES)
def test_dashboard_shows_existing_resources(templates: Templates, stage: str) -> None:
    """The dashboard shows queues, tables, functions and firewalls by the names in the other stacks."""
    dashboard = templates.one(stage, "observability", "AWS::CloudWatch::Dashboard")
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    names: dict[tuple[str, str], set[str]] = {}
    for widget in widgets:
        for namespace, _metric, *dimensions in widget["properties"]["metrics"]:
            for name, value in zip(dimensions[::2], dimensions[1::2], strict=True):
                key = (f"{namespace} {name}", widget["properties"]["region"])
                names.setdefault(key, set()).add(value)
    queues = templates.properties(stage, "data", "AWS::SQS::Queue")
    tables = templates.properties(stage, "data", "AWS::DynamoDB::GlobalTable")
    online = {each["TableName"] for each in tables} - {SETTINGS[stage].deployment().registry_table}
    assert names["AWS/SQS QueueName", HOME] == {each["QueueName"] for each in queues}
    for region in (HOME, AWAY):
        stack = f"api-{region}"
        # CloudWatch knows a firewall by the name of its metric.
        firewall = templates.one(stage, stack, "AWS::WAFv2::WebACL")["VisibilityConfig"]
        assert names["AWS/WAFV2 WebACL", region] == {firewall["MetricName"]}
        function = templates.one(stage, stack, "AWS::Lambda::Function")["FunctionName"]
        assert names["AWS/Lambda FunctionName", region] == {function}
        assert names["AWS/Lambda Resource", region] == {f"{function}:live"}
        assert names["AWS/DynamoDB TableName", region] == online
        assert names["mlpipe model", region] == set(deployable_names(EXAMPLE.defs))
