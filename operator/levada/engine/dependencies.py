"""What a task run waits for: the futures and states among its arguments, also inside nested collections.

Lists, tuples, named tuples, sets, dicts and dataclasses are looked into. Everything else (an array, a data frame, an object of
the user) is passed on unseen, and a collection without futures is passed on as the very object it is. `allow_failure(...)` around a
future is a word for the engine, `quote(...)` around a collection keeps us out of it; the task gets what is inside.
"""

from collections.abc import Callable, Iterable
from typing import Any

from levada.annotations import Annotation, allow_failure, quote
from levada.futures import Future
from levada.states import State

Resolve = Callable[[Future[Any] | State[Any]], Any]
_ATOMS = frozenset({int, str, float, bytes, bool, type(None), complex, bytearray, range, slice})
ANNOTATED = 0  # the id of no object
_PLAIN = frozenset({list, tuple, set, frozenset, dict})


def find(values: Iterable[Any], tolerated: set[int] | None = None) -> list[Future[Any] | State[Any]]:
    """The futures and states in some values, in the order of their appearance, each once.

    Args:
        values: where to look.
        tolerated: gets the ids of those that stand in `allow_failure(...)`, and ANNOTATED if there is any annotation.
    """
    found: dict[int, Future[Any] | State[Any]] = {}
    seen: set[int] = set()
    todo = [value for value in values if type(value) not in _ATOMS]
    todo.reverse()
    while todo:
        value = todo.pop()
        if isinstance(value, (Future, State)):
            found[id(value)] = value
            continue
        if isinstance(value, Annotation):
            if tolerated is not None:
                tolerated.add(ANNOTATED)
            if isinstance(value, allow_failure) and tolerated is not None:
                inner_sources = find((value.value,))
                tolerated.update(map(id, inner_sources))
                found.update((id(source), source) for source in inner_sources)
            elif not isinstance(value, quote):
                todo.append(value.value)
            continue
        inner = _children(value)
        if inner is None or id(value) in seen:
            continue
        seen.add(id(value))
        todo.extend([child for child in inner if type(child) not in _ATOMS][::-1])
    return list(found.values())


def _children(value: Any) -> Iterable[Any] | None:
    """What a collection holds; None for anything that is not looked into."""
    kind = type(value)
    if kind is dict or isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if kind in _PLAIN or isinstance(value, (list, tuple, set, frozenset)):
        return value  # type: ignore[no-any-return]  # narrowed by the line above
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return [getattr(value, name) for name in fields if hasattr(value, name)]
    return None


def replace(value: Any, resolve: Resolve) -> Any:
    """The value with each future and state replaced by what `resolve` makes of it. Nothing is changed in place."""
    return _replace(value, resolve, {})


def _replace(value: Any, resolve: Resolve, made: dict[int, Any]) -> Any:
    """Replace in a value; `made` holds the copies of the collections around it, for those that hold themselves."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, (Future, State)):
        return resolve(value)
    if isinstance(value, Annotation):
        return value.value if isinstance(value, quote) else _replace(value.value, resolve, made)
    if id(value) in made:
        return made[id(value)]
    return _rebuild(value, resolve, made) if holds_any(value) else value


def holds_any(value: Any) -> bool:
    """Whether a value holds anything that is replaced: a future, a state, or an annotation."""
    seen: set[int] = set()
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, (Future, State, Annotation)):
            return True
        inner = _children(value)
        if inner is not None and id(value) not in seen:
            seen.add(id(value))
            todo.extend(child for child in inner if type(child) not in _ATOMS)
    return False


def _rebuild(value: Any, resolve: Resolve, made: dict[int, Any]) -> Any:
    """A copy of a collection that is known to hold futures."""
    if isinstance(value, dict):
        clone = {} if type(value) is dict else _copy(value)  # a copy keeps the class, and the factory of a defaultdict
        clone.clear()
        made[id(value)] = clone
        for key, item in value.items():
            clone[_replace(key, resolve, made)] = _replace(item, resolve, made)
        return clone
    if type(value) is list:
        items: list[Any] = []
        made[id(value)] = items
        items.extend(_replace(item, resolve, made) for item in value)
        return items
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_replace(item, resolve, made) for item in value])
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)([_replace(item, resolve, made) for item in value])
    clone = _copy(value)
    for name in type(value).__dataclass_fields__:
        if hasattr(value, name):
            object.__setattr__(clone, name, _replace(getattr(value, name), resolve, made))  # frozen ones too
    return clone


def _copy(value: Any) -> Any:
    import copy

    return copy.copy(value)


def worth_a_look(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether any argument is worth looking into: the quick test for calls with plain values."""
    for value in args:
        if type(value) not in _ATOMS:
            return True
    return any(type(value) not in _ATOMS for value in kwargs.values())
