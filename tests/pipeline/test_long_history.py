"""What a model's past costs: nothing, however long it is."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.long_history import SHORT, costs


def test_a_longer_history_costs_no_operation_more() -> None:
    """Publish, rollback, sensors, `doctor` and retention read what is recent or retained, by key and page.

    Of hourly batches, 1,200 reach back beyond all that anything looks at: 400 more must not be seen.
    """
    short, long, longer = costs(SHORT), costs(1200), costs(1600)
    assert longer == long
    # A page holds more than a thousand records, so the same requests are answered with more of them.
    for name, cost in long.items():
        few = short[name]
        assert replace(cost, items=0, rows=0) == replace(few, items=0, rows=0), name
