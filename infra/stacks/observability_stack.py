"""The stack for monitoring: dashboard, alarms about batches, their topic, and a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets

from infra.capabilities.monitoring.alarms import add_topic
from infra.capabilities.monitoring.dashboard import add_dashboard
from infra.capabilities.monitoring.pipeline_alarms import add_pipeline_alarms
from infra.stacks.stage_stack import StageStack
from prediction_contract.naming.resource_names import STAGE_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.provisioned_models import ProvisionedModel
    from infra.settings import StageSettings

# AWS forecasts only after five weeks of spending; actual spending is reported from the first day.
_NOTIFIED_AT_PERCENT = (("FORECASTED", 80), ("FORECASTED", 100), ("ACTUAL", 100))


class ObservabilityStack(StageStack):
    """Monitoring in the home region; each region's API stack has alarms of its own."""

    def __init__(self, app: cdk.App, settings: StageSettings, models: Iterable[ProvisionedModel]) -> None:
        super().__init__(app, "observability", settings)
        deployment = self.deployment
        topic_arn = deployment.alarm_topic_arn
        services = ("cloudwatch.amazonaws.com", "budgets.amazonaws.com")
        policy = add_topic(self, settings, deployment.alarm_topic, topic_arn, *services, takes_events=True)
        declared = list(models)
        add_pipeline_alarms(self, settings, declared, topic_arn)
        add_dashboard(self, settings, [model.name for model in declared])
        self._budget(policy)

    def _budget(self, policy: cdk.CfnResource) -> None:
        settings, deployment, budget = self.settings, self.deployment, budgets.CfnBudget
        added = budget(
            self,
            "Budget",
            budget=budget.BudgetDataProperty(
                budget_name=deployment.alarm("monthly"),
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budget.SpendProperty(amount=settings.monthly_budget_dollars, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:{STAGE_TAG}${settings.stage}"]},
            ),
            notifications_with_subscribers=[
                budget.NotificationWithSubscribersProperty(
                    notification=budget.NotificationProperty(
                        notification_type=kind,
                        comparison_operator="GREATER_THAN",
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[
                        budget.SubscriberProperty(subscription_type="SNS", address=deployment.alarm_topic_arn)
                    ],
                )
                for kind, percent in _NOTIFIED_AT_PERCENT
            ],
        )
        added.add_resource_dependency(policy)
