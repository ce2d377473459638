"""How the operator names an object of a kind that it knows."""

from typing import NamedTuple


class Key(NamedTuple):
    """A namespaced name."""

    namespace: str
    name: str
