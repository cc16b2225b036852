"""`python -m ssl_lab.dashboard ENTITY/PROJECT`: a W&B workspace that compares methods, built from code."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from ssl_lab import cli
from ssl_lab.config import ConfigError

USAGE = """usage: ssl-lab dashboard ENTITY[/PROJECT]

  Makes a saved view of the runs in a W&B project (ssl_lab unless said otherwise): methods over their seeds, health,
  accuracy against cost. Push offline runs first (ssl-lab sync), and log in (wandb login, or WANDB_API_KEY).
  Accuracy is that of the probe while training: runs with probe=none, as those of the tables, have none there.
  Without an account: python -m ssl_lab.report 'runs=outputs/<experiment>/*' draws the same on a page of its own.
  Needs wandb-workspaces: pip install 'ssl_lab[dashboards]'.
"""
METHOD, STEP = "method._target_", "trainer/global_step"
HEALTH = ("rankme", "lidar", "alpha_req", "alignment", "uniformity", "deviation")


def main(words: Sequence[str]) -> None:
    """Save the workspace and say where it is. Raises ConfigError for a bad name or a missing package."""
    if len(words) != 1 or words[0].startswith("-"):
        sys.stdout.write(USAGE)
        raise SystemExit(0 if {"--help", "-h"} & set(words) else 2)
    entity, _, project = words[0].partition("/")
    if not entity or "/" in project:
        raise ConfigError([f"{words[0]}: give ENTITY or ENTITY/PROJECT, as W&B's address shows them"])
    made = workspace(entity, project or "ssl_lab")
    try:
        made.save()
    except importlib.import_module("wandb.errors").Error as error:  # no account, or none that may write there
        raise ConfigError(
            [
                f"W&B did not take the workspace of {words[0]}: {' '.join(str(error).split())}",
                "log in (wandb login, or WANDB_API_KEY); without an account: python -m ssl_lab.report 'runs=…/*'",
            ]
        ) from None
    sys.stdout.write(f"{made.url}\n")


def workspace(entity: str, project: str) -> Any:
    """Three sections: methods grouped over seeds, accuracy against cost, health."""
    try:
        wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
        ws: Any = importlib.import_module("wandb_workspaces.workspaces")
    except ImportError:
        raise ConfigError(["dashboard needs wandb-workspaces: pip install 'ssl_lab[dashboards]'"]) from None

    def curve(metric: str) -> Any:
        """A line a method: the mean over its seeds, and their deviation around it."""
        grouped = {"groupby": wr.Config(METHOD), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        return wr.LinePlot(title=metric, x=STEP, y=[metric], **grouped)

    def bars(metric: str) -> Any:
        return wr.BarPlot(title=metric, metrics=[metric], groupby=wr.Config(METHOD), groupby_aggfunc="mean")

    def cost(metric: str, log: bool) -> Any:
        against = wr.SummaryMetric(metric)
        return wr.ScatterPlot(title=f"kNN against {metric}", x=against, y=wr.SummaryMetric("final/knn_top1"), log_x=log)

    methods = [curve("val/knn_top1"), bars("final/knn_top1"), curve("train/loss")]
    costs = [cost("final/flops", True), cost("final/seconds", False)]
    sections = [
        ws.Section("Methods", panels=methods, is_open=True),
        ws.Section("Accuracy against cost", panels=costs, is_open=True),
        ws.Section("Health, without labels", panels=[curve(f"health/{name}") for name in HEALTH]),
    ]
    return ws.Workspace(entity, project, name="Methods side by side", sections=sections)


if __name__ == "__main__":
    with cli.messages():
        main(sys.argv[1:])
