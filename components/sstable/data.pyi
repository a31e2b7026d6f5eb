from collections.abc import Callable, Sequence

from tfx_cassandra.components.cql.rows import Cells
from tfx_cassandra.components.sstable.layout import Plan, Stream
from tfx_cassandra.components.sstable.types import Order

def token(key: bytes) -> int: ...
def compare(order: Order, a: bytes, b: bytes) -> int: ...

class Merger:
    counts: list[tuple[int, int]]
    held: int
    def __init__(
        self,
        plan: Plan,
        streams: Sequence[Stream],
        feeds: Sequence[Callable[[], bytes]],
        now: int,
        rows: int,
        size: int,
    ) -> None: ...
    def batch(self) -> tuple[int, list[Cells], list[bytes]]: ...
