"""The keywords of our own parts, read from their source: so a configuration is checked before torch is imported."""

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

PACKAGE = Path(__file__).resolve().parent

# The types of annotations that a configuration can hold; all others pass as Any.
_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "None": None,
    "Sequence": Sequence,
    "Mapping": Mapping,
    "Literal": Literal,
    "Any": Any,
}


class Parameter(NamedTuple):
    """A keyword of a node's target: its type as far as we can tell, and whether it must be given."""

    type: Any
    required: bool


@cache
def signature(target: str) -> dict[str, Parameter] | None:
    """Keywords of one of our own functions or classes, read from its source; None for what is not ours."""
    found = _definition(target)
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.FunctionDef):
        return _parameters(node, skip=0)
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    own = _parameters(init, skip=1) if init else _fields(node)
    inherits = init.args.kwarg is not None if init else not own
    bases = [signature(f"{module}.{base.id}") for base in node.bases if isinstance(base, ast.Name)]
    inherited = next((parameters for parameters in bases if parameters), {}) if inherits else {}
    return {**inherited, **own}


def _parameters(function: ast.FunctionDef, skip: int) -> dict[str, Parameter]:
    positional = (function.args.posonlyargs + function.args.args)[skip:]
    defaults: list[ast.expr | None] = [None] * len(positional)
    if function.args.defaults:
        defaults[-len(function.args.defaults) :] = function.args.defaults
    pairs = [
        *zip(positional, defaults, strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    return {argument.arg: Parameter(_type(argument.annotation), default is None) for argument, default in pairs}


def _fields(node: ast.ClassDef) -> dict[str, Parameter]:
    """Keywords of a dataclass or a named tuple."""
    return {
        line.target.id: Parameter(_type(line.annotation), line.value is None)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def _type(annotation: ast.expr | None) -> Any:
    """A plain type out of its source; Any for what only an import could tell."""
    if annotation is None:
        return Any
    known = {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)} <= set(_TYPES)
    if not known or any(isinstance(n, ast.Attribute) for n in ast.walk(annotation)):
        return Any
    code = compile(ast.Expression(annotation), "annotation", "eval")
    return eval(code, {"__builtins__": {}}, _TYPES)  # our own source


@cache
def _definition(target: str) -> tuple[str, ast.FunctionDef | ast.ClassDef] | None:
    """Module and syntax of a name in our package, found through the imports of `__init__` files."""
    module, _, name = target.rpartition(".")
    tree = _tree(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            return _definition(f"{node.module}.{original}")
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    first, *rest = module.split(".")
    base = PACKAGE.joinpath(*rest)
    file = base.with_suffix(".py") if base.with_suffix(".py").exists() and rest else base / "__init__.py"
    return ast.parse(file.read_text()) if first == PACKAGE.name and file.exists() else None
