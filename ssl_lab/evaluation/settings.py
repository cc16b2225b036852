"""What a protocol may be asked for."""

from collections.abc import Sequence


def require(fine: bool, setting: str, got: object, allowed: str, instead: object) -> None:
    """Raises ValueError unless a setting is `fine`: what it is, what is allowed, and what to type.

    setting: its key below `protocols`, such as "knn.k". instead: a value that is allowed.
    """
    if not fine:
        raise ValueError(f"protocols.{setting}={got}; allowed: {allowed}; set protocols.{setting}={instead}")


def is_amount(amount: float) -> bool:
    """Whether it is an amount of labels: a share of them below 1, a whole number a class from 1 on."""
    return 0 < amount < 1 or (amount >= 1 and amount == int(amount))


def require_penalties(protocol: str, penalties: Sequence[float]) -> None:
    """Raises ValueError unless there is a penalty, and none below 0."""
    fine = len(penalties) > 0 and all(penalty >= 0 for penalty in penalties)
    require(fine, f"{protocol}.penalties", list(penalties), "one or more, each 0 or above", "[0.001]")
