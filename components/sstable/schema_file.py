"""schema.cql of a snapshot: the table, its user-defined types, and the columns that were dropped.

Cassandra writes it with each snapshot (org.apache.cassandra.db.SchemaCQLHelper), so nothing of the live cluster is
needed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cassandra import cqltypes

from tfx_cassandra.components.cql import layout
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import SCALARS
from tfx_cassandra.components.cql.values import has_one_form, type_parts
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.sstable import types

_TOKEN = re.compile(
    r"""\s+|--[^\n]*|//[^\n]*|/\*.*?\*/|(\$\$.*?\$\$|"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s"'(),;<>.=]+|[(),;<>.=])""",
    re.DOTALL,
)
_CLASSES = {kind.typename: kind for kind in vars(cqltypes).values() if getattr(kind, 'typename', None) in SCALARS}
_IN_RESULTS = {**_CLASSES, 'text': cqltypes.VarcharType}  # a result names text so, unless it is within a vector


@dataclasses.dataclass(frozen=True)
class SchemaFile:
    """The table of a snapshot.

    Attributes:
      table: The table.
      user_types: (field, CQL type) of each field of each user-defined type.
      dropped: For each column that was dropped: microseconds since 1970 up to which its cells are gone.
    """

    table: Table
    user_types: Mapping[str, tuple[tuple[str, str], ...]]
    dropped: Mapping[str, int]

    def driver_type(self, cql_type: str, in_vector: bool = False) -> Any:
        """Returns the driver's class of a CQL type, as the server would name it in a result.

        Args:
          cql_type: The type.
          in_vector: Whether it is within a vector: only there a result says what is frozen.

        Raises:
          SchemaError: It is no type of CQL, nor one that schema.cql declares.
        """
        name, parts = type_parts(cql_type)
        if name == 'vector':
            element = self.driver_type(parts[0], in_vector=True)
            return cqltypes.VectorType.apply_parameters([element, int(parts[1])], None)
        inner = [self.driver_type(part, in_vector) for part in parts]
        if name == 'frozen':
            in_vector = in_vector and type_parts(parts[0])[0] not in ('tuple', 'vector')  # which always are
            return cqltypes.FrozenType.apply_parameters(inner) if in_vector else inner[0]
        nested = {'list': 'ListType', 'set': 'SetType', 'map': 'MapType', 'tuple': 'TupleType'}
        if name in nested:
            return getattr(cqltypes, nested[name]).apply_parameters(inner)
        if name in _CLASSES:
            return (_CLASSES if in_vector else _IN_RESULTS)[name]
        unquoted = name[1:-1].replace('""', '"') if name.startswith('"') else name
        if unquoted not in self.user_types:
            raise SchemaError(f'schema.cql: got type {cql_type}, rule: a type of CQL, or one that it declares')
        names, kinds = zip(*self.user_types[unquoted], strict=True)
        fields = tuple(self.driver_type(kind, in_vector) for kind in kinds)
        return cqltypes.UserType.make_udt_class(self.table.keyspace, unquoted, names, fields)


def completed(schema: SchemaFile, names: Iterable[str]) -> SchemaFile:
    """Returns a schema with the user-defined types that schema.cql lacks, as Cassandra's names of types have them.

    Cassandra leaves out those that only stand within tuples, vectors or other user-defined types.
    """
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for name in names:
        for user_type, fields in types.user_types(types.parse_type(name)).items():
            if len(fields) >= len(found.get(user_type, ())):  # a field may have been added since
                found[user_type] = fields
    return dataclasses.replace(schema, user_types={**found, **schema.user_types})


def parse(text: str, only: tuple[str, str] | None = None) -> SchemaFile:
    """Parses the text of a schema.cql.

    Args:
      text: The text.
      only: Keyspace and name of the table in the schema of a whole cluster; None for the only table in the text.

    Raises:
      SchemaError: It does not create a table, or one that cannot be read from its files: a view, or one with counters.
    """
    found: SchemaFile | None = None
    user_types: dict[str, tuple[tuple[str, str], ...]] = {}
    for words in _statements(text):
        head = [word.upper() for word in words[:3]]
        if only is not None and not _concerns(head, words, only):
            continue
        if head[:2] == ['CREATE', 'TYPE']:
            (_, name), rest = _named(words[2:])
            user_types[name] = tuple((_plain(field[0]), _type(field[1:])) for field in _items(rest))
        elif head[:2] == ['CREATE', 'TABLE']:
            found = SchemaFile(_table(words[2:]), user_types, {})
        elif head == ['CREATE', 'MATERIALIZED', 'VIEW']:
            raise SchemaError('schema.cql: got a materialized view, rule: a table; read its base table')
        elif head[:2] == ['ALTER', 'TABLE'] and found is not None:
            found = _altered(found, words[2:])
    if found is None:
        raise _nothing_of('' if only is None else f' {".".join(only)}')
    return found


def name_of(text: str) -> str:
    """Returns KEYSPACE.NAME of the table or view that a snapshot's schema.cql creates, whether it can be read or not.

    Raises:
      SchemaError: There is none.
    """
    for words in _statements(text):
        head = [word.upper() for word in words[:3]]
        if head[:2] == ['CREATE', 'TABLE'] or head == ['CREATE', 'MATERIALIZED', 'VIEW']:
            return '.'.join(_named(words[2 if head[1] == 'TABLE' else 3 :])[0])
    raise _nothing_of('')


def _nothing_of(table: str) -> SchemaError:
    return SchemaError(f'schema.cql: got no CREATE TABLE{table}, rule: the file that a snapshot has')


def _concerns(head: list[str], words: list[str], only: tuple[str, str]) -> bool:
    """Whether a statement is about a table, or a type of its keyspace."""
    if head == ['CREATE', 'MATERIALIZED', 'VIEW']:
        return _named(words[3:])[0] == only
    if head[:2] == ['CREATE', 'TYPE']:
        return _named(words[2:])[0][0] == only[0]
    return head[:2] in (['CREATE', 'TABLE'], ['ALTER', 'TABLE']) and _named(words[2:])[0] == only


def _statements(text: str) -> Iterator[list[str]]:
    """Yields the words of each statement."""
    words: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SchemaError(f'schema.cql: got {text[at : at + 20]!r} at character {at}, rule: CQL')
        at = match.end()
        if match[1] == ';':
            yield words
            words = []
        elif match[1] is not None:
            words.append(match[1])
    if words:
        yield words


def _plain(word: str) -> str:
    """Returns an identifier without quotes."""
    return word[1:-1].replace('""', '"') if word.startswith('"') else word.lower()


def _named(words: list[str]) -> tuple[tuple[str, str], list[str]]:
    """Returns the keyspace and name that a statement begins with, and the rest of it."""
    if [word.upper() for word in words[:3]] == ['IF', 'NOT', 'EXISTS']:
        words = words[3:]
    if len(words) < 4 or words[1] != '.':
        raise SchemaError(f'schema.cql: got {" ".join(words[:4])!r}, rule: KEYSPACE.NAME')
    return (_plain(words[0]), _plain(words[2])), words[3:]


def _items(words: list[str]) -> list[list[str]]:
    """Returns the items of the bracket that words begin with, which commas separate."""
    items: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word in '(<') - (word in ')>')
        if depth == 0:
            break
        if word == ',' and depth == 1:
            items.append([])
        elif depth > 1 or word != '(':
            items[-1].append(word)
    return items


def _behind(words: list[str]) -> list[str]:
    """Returns the words behind the bracket that they begin with."""
    depth = 0
    for i, word in enumerate(words):
        depth += (word in '(<') - (word in ')>')
        if depth == 0:
            return words[i + 1 :]
    return []


def _type(words: list[str]) -> str:
    """Returns the CQL type that words begin with."""
    depth, found = 0, ''
    for word in words:
        if found and depth == 0 and word != '<':
            break
        depth += (word == '<') - (word == '>')
        found += ', ' if word == ',' else word if word.startswith('"') else word.lower()
    return found


def _table(words: list[str]) -> Table:
    (keyspace, name), rest = _named(words)
    columns: dict[str, str] = {}
    static: list[str] = []
    partition: list[str] = []
    clustering: list[str] = []
    for item in _items(rest):
        upper = [word.upper() for word in item]
        if upper[:2] == ['PRIMARY', 'KEY']:
            first, *rows = _items(item[2:])
            inner = _items(first) if first[0] == '(' else [first]
            partition = [_plain(part[0]) for part in inner]
            clustering = [_plain(part[0]) for part in rows]
            continue
        column = _plain(item[0])
        columns[column] = _type(item[1:])
        if 'STATIC' in upper[1:]:
            static.append(column)
        if upper[-2:] == ['PRIMARY', 'KEY']:
            partition = [column]
    if 'counter' in columns.values():
        raise SchemaError(
            f'{keyspace}.{name}: got a table of counters, rule: one without; a counter is a sum over its shards'
        )
    keys = (*partition, *clustering)
    # As the driver lists them: keys first, the others by name.
    others = sorted((column for column in columns if column not in keys), key=str.encode)
    behind = _behind(rest)
    options = [word.upper() for word in behind]
    order = options.index('CLUSTERING') if 'CLUSTERING' in options else len(options)
    return Table(
        keyspace, name, tuple(partition), tuple(clustering),
        tuple((column, columns[column]) for column in (*keys, *others)),
        descending=options[order + 5 : order + 6] == ['DESC'],
        has_static=bool(static), static=tuple(sorted(static, key=str.encode)),
        layout=layout.declared(_comment(behind), name, partition, clustering, columns, has_one_form),
    )  # fmt: skip


def _comment(options: list[str]) -> str:
    """Returns the comment among the options of a table; '' where there is none."""
    for i, word in enumerate(options[:-2]):
        if word.upper() == 'COMMENT' and options[i + 1] == '=':
            return options[i + 2][1:-1].replace("''", "'")
    return ''


def _altered(found: SchemaFile, words: list[str]) -> SchemaFile:
    """Returns the schema after an ALTER TABLE: DROP column USING TIMESTAMP time, or ADD column type."""
    _, rest = _named(words)
    upper = [word.upper() for word in rest]
    table, column = found.table, _plain(rest[1])
    if upper[0] == 'DROP' and upper[2:4] == ['USING', 'TIMESTAMP']:
        left = tuple((name, kind) for name, kind in table.types if name != column)
        static = tuple(name for name in table.static if name != column)
        table = dataclasses.replace(table, types=left, static=static, has_static=bool(static))
        return dataclasses.replace(found, table=table, dropped={**found.dropped, column: int(rest[4])})
    if upper[0] == 'ADD':
        keys = (*table.partition_key, *table.clustering)
        others = sorted((*table.types[len(keys) :], (column, _type(rest[2:]))), key=lambda pair: pair[0].encode())
        static = tuple(sorted({*table.static, *([column] if 'STATIC' in upper[3:] else [])}, key=str.encode))
        table = dataclasses.replace(
            table, types=(*table.types[: len(keys)], *others), static=static, has_static=bool(static)
        )
        return dataclasses.replace(found, table=table)
    raise SchemaError(f'schema.cql: got ALTER TABLE {" ".join(rest[:4])}, rule: DROP ... USING TIMESTAMP, or ADD')
