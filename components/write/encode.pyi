from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

MOST_ROWS: int
LARGEST_KEY: int
DELETED: int
UNSET: int

class Coding:
    arrow: Any
    def __init__(
        self,
        code: str,
        arrow: Any,
        parts: Sequence[Coding] = (),
        flip: bool = False,
        length: int = 0,
        size: int = 0,
        encoder: Callable[[str], bytes] | None = None,
    ) -> None: ...

class Values:
    count: int
    @staticmethod
    def nulls(count: int) -> Values: ...
    def value(self, row: int) -> bytes | None: ...

class Keys:
    tokens: Any
    def __init__(self, parts: list[Values]) -> None: ...
    def key(self, row: int) -> bytes: ...

def encode(coding: Coding, array: Any) -> Values: ...
def packed(columns: list[Values]) -> bytes: ...
def salts(parts: list[Values], count: int) -> Any: ...
def bodies(
    query_id: bytes,
    columns: list[Values],
    absent: Sequence[int],
    keys: Keys,
    order: NDArray[Any],
    most_bytes: int,
    most_rows: int,
    end: bytes,
    kind: int = 1,
) -> list[tuple[bytes, int, int]]: ...
