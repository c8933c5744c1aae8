"""The two kinds of panel: a few large numbers, and lines over time."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
FULL_WIDTH = 24
AGREEMENT = "Agreement with what people did next, not uplift."

Panel: TypeAlias = stat.Panel | timeseries.Panel


class Query(NamedTuple):
    """One expression of a panel and the legend of its series."""

    expr: str
    legend: str


def number(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    steps: Sequence[tuple[str, float | None]],
    decimals: int,
    width: int = 8,
    no_value: str = "no data",
) -> stat.Panel:
    """Return a panel of large numbers, one for each series of each query, at the end of the time shown.

    Args:
        title: Its title.
        description: What the numbers are, for whoever sees them for the first time.
        queries: Where they come from.
        unit: Grafana's name of their unit.
        steps: Colours and the values from which they hold; None stands for everything below.
        decimals: How many to show.
        width: In Grafana's columns, of which there are 24.
        no_value: What to show where there is no number.
    """
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(6)
        .span(width)
        .unit(unit)
        .decimals(decimals)
        .no_value(no_value)
        .thresholds(thresholds.steps([models.Threshold(color=color, value=value) for color, value in steps]))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(query, index).instant())
    return panel


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    stacked: bool = False,
    band: tuple[str, str] | None = None,
) -> timeseries.Panel:
    """Return a panel of lines over time.

    Args:
        title: Its title.
        description: What the lines are, for whoever sees them for the first time.
        unit: Grafana's name of their unit.
        queries: Where they come from.
        stacked: Whether they are parts of a whole.
        band: Legends of an upper and a lower line between which the area is filled.
    """
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.LIST).show_legend(True)
    mode = common_models.StackingMode.NORMAL if stacked else common_models.StackingMode.NONE
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(8)
        .span(8)
        .unit(unit)
        .fill_opacity(20 if stacked else 0)
        .show_points(common_models.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(mode))
        .legend(legend.placement(common_models.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(query, index).range())
    if band:
        fill = [
            models.DynamicConfigValue("custom.fillBelowTo", band[1]),
            models.DynamicConfigValue("custom.lineWidth", 0),
        ]
        panel = panel.override_by_name(band[0], fill)
        panel = panel.override_by_name(band[1], fill[1:])
    return panel


def _target(query: Query, index: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + index))
        .datasource(SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
    )
