from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

class Kind:
    arrow: pa.DataType
    def __init__(
        self,
        code: str,
        arrow: pa.DataType,
        width: int = 0,
        flip: bool = False,
        parts: Sequence[Kind] = (),
        rare: Callable[[bytes], Any] | None = None,
    ) -> None: ...

class Cells:
    def value(self, row: int) -> bytes | None: ...

def cells(body: bytes, offset: int, rows: int, columns: int) -> tuple[list[Cells], int]: ...
def decode(kind: Kind, cells: Cells) -> pa.Array: ...
