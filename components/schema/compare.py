"""How a live relation differs from the declared one. Pure: values in, values out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

from tfx_cassandra.components.schema.tables import Column, Relation

ADDABLE = ('regular', 'static')  # kinds of columns that a table can get later; key columns are fixed


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference between a live keyspace and the declared one.

    Attributes:
      where: The column, table or property that differs, such as 'feature_store.value'.
      got: Its value in the live keyspace.
      declared: Its declared value.
      kind: 'missing' if `schema.apply` can add it, 'definition' if it cannot, 'option' for a table option or the
        replication, which are the user's to choose.
    """

    where: str
    got: str
    declared: str
    kind: Literal['missing', 'definition', 'option'] = dataclasses.field(default='definition', compare=False)

    def __str__(self) -> str:
        return f'{self.where}: got {self.got}, declared {self.declared}'


def differences(declared: Relation, live: Relation | None) -> Iterator[Difference]:
    """Yields each difference of a live relation (None: there is none) from the declared one."""
    if live is None:
        yield Difference(declared.name, 'nothing', declared.kind, 'missing')
        return
    if live.kind != declared.kind:
        yield Difference(declared.name, live.kind, declared.kind)
        return
    for name, column in declared.columns.items():
        addable = declared.kind == 'type' or (declared.kind == 'table' and column.kind in ADDABLE)
        yield from _of_column(f'{declared.name}.{name}', column, live.columns.get(name), addable)
    if live.source != declared.source:
        yield Difference(declared.name, live.source, declared.source)
    for name, value in declared.options.items():
        got = live.options[name]
        if isinstance(value, Mapping) and isinstance(got, Mapping):
            # The server adds its own settings; only declared ones are compared.
            got = {key: got[key].rpartition('.')[2] for key in value if key in got}
        if got != value:
            yield Difference(f'{declared.name}.{name}', str(got), str(value), 'option')


def _of_column(where: str, declared: Column, live: Column | None, addable: bool) -> Iterator[Difference]:
    if live is None:
        kind: Literal['missing', 'definition'] = 'missing' if addable else 'definition'
        yield Difference(where, 'nothing', f'{declared.type}, {declared.role}', kind)
        return
    if live.type != declared.type:
        yield Difference(where, live.type, declared.type)
    if live.role != declared.role:
        yield Difference(where, live.role, declared.role)
