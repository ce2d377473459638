"""What can be told of a flow's code without running it: does it compile, is the function there, which parameters has it?

Compiling is not running: no import is followed and no decorator called. The operator's Python may be newer or older than the
image's; both are named in the message when they matter.
"""

import ast
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters that a flow function accepts by name."""

    names: tuple[str, ...]
    required: frozenset[str]
    any_name: bool = False  # it has **kwargs


@dataclass(frozen=True, slots=True)
class Code:
    """What inspection found. `reason` is empty if nothing is wrong. `signature` is None when it cannot be told."""

    reason: str = ""
    message: str = ""
    signature: Signature | None = None


def inspect_code(text: str, *, file: str, function: str) -> Code:
    """Look at one Python file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # an odd escape in the user's code is the user's to see, not the operator's log
            tree = ast.parse(text, filename=file)
            compile(tree, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f"{file}, line {error.lineno}" if error.lineno else file
        line = f": {error.text.strip()[:120]}" if error.text else ""
        return Code("InvalidCode", f"{error.msg} ({where}){line} [Python {platform.python_version()}]")
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return Code("InvalidCode", f"{file} cannot be compiled: {str(error) or 'it is nested too deeply'}")
    return _find(tree, file=file, function=function)


def _find(tree: ast.Module, *, file: str, function: str) -> Code:
    statements = list(_top_level(tree.body))
    for statement in reversed(statements):
        if isinstance(statement, Function) and statement.name == function:
            return Code(signature=_signature(statement))
    bound = {name for statement in statements for name in _bound_names(statement)}
    if function in bound or "*" in bound:
        return Code()
    flows = [statement.name for statement in statements if isinstance(statement, Function)]
    return Code(
        "EntrypointNotFound", f"{file} has no function {function!r}; it has: {', '.join(flows) or 'no functions'}"
    )


def _top_level(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """The statements of a module, and those inside its `if`, `try` and `with`: they bind names in the module too."""
    found: list[ast.stmt] = []
    for statement in body:
        found.append(statement)
        for name in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
                found.extend(_top_level(getattr(statement, name, [])))
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                found.extend(_top_level(handler.body))
    return found


def _bound_names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {
            node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    return set()


# These hand the function's own signature on. Any other decorator may change it, so nothing is said then.
_KEEPS_SIGNATURE: Final = frozenset({"flow", "task"})


def _signature(function: Function) -> Signature | None:
    decorators = [node.func if isinstance(node, ast.Call) else node for node in function.decorator_list]
    names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "?") for node in decorators}
    if not names <= _KEEPS_SIGNATURE:
        return None
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    keyword = [argument.arg for argument in arguments.kwonlyargs]
    required = positional[: len(positional) - len(arguments.defaults)]
    required += [name for name, default in zip(keyword, arguments.kw_defaults, strict=True) if default is None]
    return Signature((*positional, *keyword), frozenset(required), any_name=arguments.kwarg is not None)


def misfits(parameters: Mapping[str, Any], signature: Signature, *, complete: bool) -> list[str]:
    """Sentences about parameters that the function does not take or, if they are complete, still needs."""
    has = ", ".join(signature.names) or "no parameters"
    unknown = [name for name in parameters if name not in signature.names and not signature.any_name]
    missing = (
        [name for name in signature.names if name in signature.required and name not in parameters] if complete else []
    )
    return [f"the flow has no parameter {name!r} (it has: {has})" for name in unknown] + [
        f"the flow needs parameter {name!r}" for name in missing
    ]
