"""What is known of the runs of a table: which of its jobs have been made, and what is still to be measured."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ssl_lab.records import same_images, same_run


class Job(NamedTuple):
    """One run of a table."""

    row: str
    seed: int
    overrides: list[str]
    config: dict[str, Any]  # that the overrides make


class Table(NamedTuple):
    """A table's file, what it asks of each protocol, and the split that its figures are of."""

    spec: Mapping[str, Any]
    asked: Mapping[str, Mapping[str, Any]]
    split: str

    def asks(self, line: Mapping[str, Any]) -> bool:
        """Whether a result is of the split and the settings of this table."""
        return bool(line["split"] == self.split) and self.asks_of_some_split(line)

    def asks_of_some_split(self, line: Mapping[str, Any]) -> bool:
        """Whether a result is of the settings of this table."""
        protocol = line["protocol"]
        return protocol in self.asked and alike(line["asked"], self.asked[protocol])

    @property
    def beside_published(self) -> bool:
        """Whether its figures are of the split that the published ones are of."""
        return self.split == self.published_split

    @property
    def published_split(self) -> str:
        """That of the published figures."""
        return self.spec.get("published_split") or "test"

    @property
    def baselines(self) -> list[str]:
        """Their names as results have them."""
        return [name.replace("_", " ") for name in self.spec["baselines"]]

    @property
    def has_random(self) -> bool:
        """Whether random weights are among them, so that each row is compared with its own."""
        return "random weights" in self.baselines


class Known(NamedTuple):
    """What has been measured: runs as lines of a ledger, and evaluations of baselines."""

    runs: list[dict[str, Any]]
    baselines: list[dict[str, Any]]

    def run(self, job: Job, table: Table) -> dict[str, Any] | None:
        """The run of a job; where there are several, the one that most is known of, and of these the last."""
        found = [run for run in self.runs if same_run(run["config"], job.config)]
        return max(reversed(found), key=lambda run: len(lines_of(run, table)), default=None)

    def of_each_split(self, job: Job, table: Table) -> list[dict[str, Any]]:
        """The runs of a job that the tables of both splits show: two, where one was measured here and one there."""
        splits = [table._replace(split=split) for split in ("val", "test")]
        found = [(self.run(job, one), one) for one in splits]
        runs = [run for run, one in found if run is not None and (one == table or lines_of(run, one))]
        return list({id(run): run for run in runs}.values())

    def baselines_of(self, job: Job, table: Table) -> list[str]:
        """Baselines measured already on this job's images, whether or not its own run has been made."""
        alike = (run["data"] for run in self.runs if same_images(run["config"], job.config))
        if (data := next(alike, None)) is None:
            return []
        found = self.beside({"data": data, "config": job.config}, table)
        protocols = table.spec["protocols"]
        return [name for name in table.baselines if all((name, protocol) in found for protocol in protocols)]

    def beside(self, run: Mapping[str, Any], table: Table) -> dict[tuple[str, str], dict[str, Any]]:
        """The evaluations of baselines that belong beside a run, by name and protocol."""
        mine = [line for line in self.baselines if table.asks(line) and about(line, run)]
        return {(line["name"], line["protocol"]): line for line in mine}


def alike(asked: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two settings are the same; null counts as absent, for what older results do not know."""
    one, two = ({key: value for key, value in given.items() if value is not None} for given in (asked, other))
    return one == two


def lines_of(run: Mapping[str, Any], table: Table) -> dict[tuple[str, bool], dict[str, Any]]:
    """What the table shows of a run, the newest of each: by protocol, and whether batch norm was recalibrated."""
    return {
        (line["protocol"], line["name"].endswith(", recalibrated")): line
        for line in run["results"]
        if table.asks(line) and line["data"] == run["data"] and line["figures"] and line.get("shown", ["top1"])
    }


def about(line: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether an evaluation of a baseline belongs beside a run: of the same data, backbone and seed."""
    made_by, config = line["trained_by"], run["config"]
    return bool(
        line["data"] == run["data"]
        and made_by.get("seed", config["seed"]) == config["seed"]
        and made_by.get("backbone", config["method"]["backbone"]) == config["method"]["backbone"]
    )


def lacking(run: Mapping[str, Any], protocols: Sequence[str], known: Known, table: Table) -> list[str]:
    """What a table is to show of a run, or beside it, and has not been measured."""
    found, beside = lines_of(run, table), known.beside(run, table)
    parts = not run.get("whole_images", not any(again for _, again in found))  # older records do not say it
    missing = [protocol for protocol in protocols for again in {False, parts} if (protocol, again) not in found]
    wanted = [(name, protocol) for name in table.baselines for protocol in table.spec["protocols"]]
    if "finetune" in protocols and table.spec.get("supervised"):
        wanted.append(("random weights", "finetune"))  # which is what is supervised from scratch
    return [*dict.fromkeys(missing), *(", ".join(pair) for pair in wanted if pair not in beside)]
