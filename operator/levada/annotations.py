"""Words around an argument that say how a task takes it: `unmapped`, `allow_failure`, `quote`."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Annotation(Generic[T]):
    """A value with a word about it. The task gets the value alone."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """The value."""
        return self.value

    def __eq__(self, other: object) -> bool:
        """The same word about equal values."""
        return type(self) is type(other) and self.value == getattr(other, "value", None)

    def __hash__(self) -> int:
        """By the value, so that only hashable ones have a hash."""
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):  # noqa: N801  reads as a function, as in Prefect
    """A value that `.map` gives to every call as it is."""

    __slots__ = ()


class allow_failure(Annotation[T]):  # noqa: N801  reads as a function, as in Prefect
    """A future whose failure does not keep the task from running: the task then gets the exception as its argument."""

    __slots__ = ()


class quote(Annotation[T]):  # noqa: N801  reads as a function, as in Prefect
    """A value that is not searched for futures: for collections so large that looking into them takes time."""

    __slots__ = ()

    def unquote(self) -> T:
        """The value."""
        return self.value
