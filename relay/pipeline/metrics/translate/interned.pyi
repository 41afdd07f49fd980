from collections.abc import Mapping
from typing import Final, Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")

LOOKS_MAX: Final[int]

class Interned(Generic[_K, _V]):
    def __init__(self, idle_max: int) -> None: ...
    @property
    def by_key(self) -> Mapping[_K, _V]: ...
    def add(self, key: _K, value: _V) -> _V: ...
