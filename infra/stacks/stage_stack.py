"""The base of a stage's stacks: name, account, region and protection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

if TYPE_CHECKING:
    from infra.settings import StageSettings


class StageStack(cdk.Stack):
    """A stack of one stage in one region.

    Args:
        app: The stage's app.
        name: The suffix of the stack's name.
        settings: The stage's settings.
        region: The region; the home region by default.
    """

    def __init__(self, app: cdk.App, name: str, settings: StageSettings, region: str | None = None) -> None:
        self.settings, self.deployment = settings, settings.deployment(region)
        super().__init__(
            app,
            f"mlpipe-{settings.stage}-{name}",
            env=cdk.Environment(account=settings.account_id, region=self.deployment.region),
            termination_protection=settings.deletion_protection,
        )
