from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

LARGEST: int
LARGEST_VARINT: int

class Kind:
    arrow: pa.DataType
    def __init__(
        self,
        code: str,
        arrow: pa.DataType,
        parts: Sequence[Kind] = (),
        flip: bool = False,
        length: int = 0,
        size: int = 0,
        codec: str = 'utf-8',
        replace: bool = False,
        decoder: Callable[[bytes], Any] | None = None,
    ) -> None: ...

class Cells:
    def value(self, row: int) -> bytes | None: ...
    def only(self, row: int) -> Cells: ...

def cells(body: bytes, offset: int, rows: int, columns: int) -> tuple[list[Cells], int]: ...
def located(body: bytes, starts: Any, lengths: Any) -> Cells: ...
def checksum(columns: list[Cells], kept: Any = None) -> int: ...
def decode(kind: Kind, cells: Cells) -> pa.Array: ...
