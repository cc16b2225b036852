"""What a protocol may be asked for."""

from collections.abc import Sequence


class SettingError(ValueError):
    """A setting that a protocol cannot have: its key, what it is, what is wrong, and a value that is right."""

    def __init__(self, key: str, got: object, problem: str, instead: object):
        super().__init__(key, got, problem, instead)

    def said(self, node: str = "") -> str:
        """The message; `node` is where the user has the protocol's keys, such as "protocols.knn."."""
        key, got, problem, instead = self.args
        return f"{node}{key}={got}; {problem}; set {node}{key}={instead}"

    def __str__(self) -> str:
        return self.said()


def require(fine: bool, key: str, got: object, allowed: str, instead: object) -> None:
    """Raises SettingError unless a setting is `fine`."""
    if not fine:
        raise SettingError(key, got, f"allowed: {allowed}", instead)


def require_penalties(penalties: Sequence[float]) -> None:
    """Raises SettingError unless there is a penalty, and none below 0."""
    fine = len(penalties) > 0 and all(penalty >= 0 for penalty in penalties)
    require(fine, "penalties", list(penalties), "one or more, each 0 or above", "[0.001]")


def require_rates(rates: Sequence[float]) -> None:
    """Raises SettingError unless there is a rate, and none is 0 or below."""
    fine = len(rates) > 0 and all(rate > 0 for rate in rates)
    require(fine, "rates", list(rates), "one or more, each above 0", "[0.1]")
