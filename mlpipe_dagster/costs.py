"""Estimates the cost of a batch from its consumption and from configured prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

_PREFIX = "MLPIPE_PRICE_"
_SECONDS = 3600
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in US dollars: list prices of us-east-1 in November 2026, unless the environment sets others.

    The variable of each price is `MLPIPE_PRICE_` and its name in capitals. Prices of machines are hourly, for
    example `MLPIPE_PRICE_ML_M5_XLARGE`; machines without a price are left out of the estimate.

    Attributes:
        dynamodb_million_writes: Price of a million write request units, on demand.
        glue_dpu_hour: Price of an hour of one DPU of a Spark job.
        snowflake_credit: Price of a credit; it depends on edition and contract.
        snowflake_credits_per_hour: Credits per hour of the load's warehouse; 1 is the smallest size.
        machines: Price of an hour of a SageMaker instance, by its type.
    """

    dynamodb_million_writes: float = 0.625
    glue_dpu_hour: float = 0.44
    snowflake_credit: float = 3.0
    snowflake_credits_per_hour: float = 1.0
    machines: tuple[tuple[str, float], ...] = (("ml.m5.xlarge", 0.23), ("ml.m5.2xlarge", 0.461))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the prices of an environment.

        Raises:
            ValueError: A price is not a number.
        """
        own = {field.name for field in fields(cls)} - {"machines"}
        values: dict[str, float] = {}
        machines = dict(cls().machines)
        for variable, text in environment.items():
            name = variable.removeprefix(_PREFIX).lower()
            if not variable.startswith(_PREFIX) or not text:
                continue
            if name in own:
                values[name] = float(text)
            elif name.startswith("ml_"):
                machines[name.replace("_", ".")] = float(text)
        return cls(**values, machines=tuple(machines.items()))

    def machine(self, instance_type: str) -> float | None:
        """Return an instance type's price per hour; None if it is unknown."""
        return dict(self.machines).get(instance_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """The known consumption of a batch.

    Attributes:
        write_units: Write units of DynamoDB.
        dpu_seconds: DPU seconds of Glue.
        warehouse_seconds: Seconds of Snowflake's warehouse in the load's own steps.
        machine_seconds: Seconds of SageMaker instances, by type.
    """

    write_units: int = 0
    dpu_seconds: float = 0.0
    warehouse_seconds: float = 0.0
    machine_seconds: Mapping[str, float] | None = None


def estimated_costs(consumed: Consumption, prices: Prices) -> dict[str, float]:
    """Return the cost in dollars by service, without storage, requests and transfer."""
    costs = {
        "dynamodb": consumed.write_units / _MILLION * prices.dynamodb_million_writes,
        "glue": consumed.dpu_seconds / _SECONDS * prices.glue_dpu_hour,
        "snowflake": consumed.warehouse_seconds
        / _SECONDS
        * prices.snowflake_credits_per_hour
        * prices.snowflake_credit,
    }
    for instance_type, seconds in (consumed.machine_seconds or {}).items():
        price = prices.machine(instance_type)
        if price is not None:
            costs["sagemaker"] = costs.get("sagemaker", 0.0) + seconds / _SECONDS * price
    return {service: round(cost, 6) for service, cost in costs.items() if cost}
