"""What every stack of a stage has: its name, its place, its protection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

if TYPE_CHECKING:
    from infra.settings import StageSettings


class StageStack(cdk.Stack):
    """A stack of one stage in one region.

    Args:
        app: The stage's app.
        name: Ends the stack's name.
        settings: The stage's.
        region: Where; home unless it is named.
    """

    def __init__(self, app: cdk.App, name: str, settings: StageSettings, region: str | None = None) -> None:
        self.settings, self.deployment = settings, settings.deployment(region)
        super().__init__(
            app,
            f"mlpipe-{settings.stage}-{name}",
            env=cdk.Environment(account=settings.account_id, region=self.deployment.region),
            termination_protection=settings.deletion_protection,
        )
