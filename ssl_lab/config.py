"""Every way in which a configuration does not hold to its schema. Imports neither torch nor lightning."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ssl_lab.say import near
from ssl_lab.signatures import PACKAGE, signature


class ConfigError(ValueError):
    """A configuration that cannot work; its text lists all that is wrong."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Node(dict[str, Any]):
    """A part built by Hydra: `_target_` and its keywords, which the target's own signature describes."""


class AtLeast(NamedTuple):
    """What a number may not be below: `Annotated[int, AtLeast(1)]`."""

    value: float


Count = Annotated[int, AtLeast(1)]


# What the entry points hand to a node beside its own keys.
GIVEN = {
    "data": {"seed"},
    "sets": {"seed"},
    "method": {"preprocessing", "seed"},
    "callbacks": {"bank", "queries", "num_classes", "images"},
}


def check(config: Mapping[str, Any], schema: type) -> list[str]:
    """All problems of a resolved configuration, one sentence each; empty when there is none."""
    return list(_check_value("", config, schema))


def _check_value(key: str, value: Any, expected: Any) -> Iterator[str]:
    if value == "???":
        yield f"{key}: missing; set {key}=…"
    elif isinstance(value, Mapping) and "_target_" in value:
        yield from _check_node(key, value)
    elif isinstance(expected, type) and is_dataclass(expected):
        yield from _check_fields(key, value, expected)
    elif expected is Node:
        yield f"{key}: must be a part with a _target_, got {value!r}; choose an option, see --help"
    elif get_origin(expected) in (Union, UnionType) and isinstance(value, list | tuple | Mapping):
        inner = next((a for a in get_args(expected) if _sequence(a) or _mapping(a)), None)
        yield from _check_value(key, value, inner) if inner is not None else [_mistyped(key, value, expected)]
    elif _mapping(expected) and isinstance(value, Mapping):
        inner = (get_args(expected) or (Any, Any))[1]
        for name, item in value.items():
            yield from _check_value(f"{key}.{name}", item, inner)
    elif isinstance(value, list | tuple) and _sequence(expected):
        inner = (get_args(expected) or (Any,))[0]
        for i, item in enumerate(value):
            yield from _check_value(f"{key}[{i}]", item, inner)
    elif not _fits(value, expected):
        yield _mistyped(key, value, expected)


def _mistyped(key: str, value: Any, expected: Any) -> str:
    return f"{key}={value!r}: must be {describe(expected)}"


def _check_fields(key: str, value: Any, schema: type) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{key}={value!r}: must be a group of keys"
        return
    hints = get_type_hints(schema, include_extras=True)
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in hints:
            yield f"{prefix}{name}: no such key; {near(name, list(hints))}"
    for field in fields(schema):
        if field.name in value:
            yield from _check_value(prefix + field.name, value[field.name], hints[field.name])
        elif not _fits(None, hints[field.name]):
            yield f"{prefix}{field.name}: missing"


def _check_node(key: str, node: Mapping[str, Any]) -> Iterator[str]:
    target = str(node["_target_"])
    parameters = signature(target)
    if parameters is None:
        if target.startswith(f"{PACKAGE.name}."):
            yield f"{key}._target_={target}: ssl_lab has no such part"
        return  # a third party's: checked when it is imported
    own = {name: value for name, value in node.items() if name not in ("_target_", "_partial_", "_convert_")}
    group, _, inside = key.partition(".")
    given = GIVEN.get(group, set()) if not inside or group in ("callbacks", "sets") else set()
    for name, value in own.items():
        if name not in parameters or name in given:
            yield f"{key}.{name}: {target} takes no such key; {near(name, sorted(set(parameters) - given))}"
        else:
            yield from _check_value(f"{key}.{name}", value, parameters[name].type)
    if not node.get("_partial_"):
        for name in sorted(n for n, p in parameters.items() if p.required and n not in own and n not in given):
            yield f"{key}.{name}: missing; {target} needs it"


def _fits(value: Any, expected: Any) -> bool:
    if expected is Any or isinstance(expected, str):
        return True
    origin = get_origin(expected)
    if origin is Annotated:
        kind, least = get_args(expected)
        return _fits(value, kind) and value >= least.value
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(expected))
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(expected))
    if expected in (None, NoneType):
        return value is None
    if expected is bool or isinstance(value, bool):
        return isinstance(value, bool) and expected is bool
    if expected is float:
        return isinstance(value, int | float)
    if _sequence(expected) or _mapping(expected):
        return isinstance(value, list | tuple if _sequence(expected) else Mapping)
    return isinstance(value, expected) if isinstance(expected, type) else True


def _sequence(expected: Any) -> bool:
    return (get_origin(expected) or expected) in (list, tuple, Sequence)


def _mapping(expected: Any) -> bool:
    candidates = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    return any((get_origin(one) or one) in (dict, Mapping) for one in candidates)


def describe(expected: Any) -> str:
    """A type in words."""
    origin = get_origin(expected)
    if origin is Annotated:
        kind, least = get_args(expected)
        return f"{describe(kind)}, {least.value:g} or more"
    if origin is Literal:
        return "one of " + ", ".join(str(allowed) for allowed in get_args(expected))
    if origin in (Union, UnionType):
        return " or ".join(describe(one) for one in get_args(expected))
    if _sequence(expected):
        inner = [one for one in get_args(expected) if one is not Ellipsis]
        return "a list of " + (describe(inner[0]) if inner else "values")
    words = {
        dict: "a group of keys",
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        NoneType: "null",
    }
    return words.get(expected, getattr(expected, "__name__", str(expected)))
