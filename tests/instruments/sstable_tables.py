"""Tables with made histories: of every CQL type, with every kind of write and deletion, in several SSTables each.

Everything follows from a seed. Statements have write times from a handful, so that they tie, and come in stages; after
each stage a caller flushes, which makes an SSTable of it.
"""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable, Iterator

SCALARS = (
    'ascii', 'bigint', 'blob', 'boolean', 'date', 'decimal', 'double', 'duration', 'float', 'inet', 'int', 'smallint',
    'text', 'time', 'timestamp', 'timeuuid', 'tinyint', 'uuid', 'varint',
)  # fmt: skip
UNORDERED = ('duration',)
TYPES = {
    'point': (('a', 'int'), ('b', 'text')),
    'Odd name': (('x', 'varint'), ('Y y', 'frozen<list<int>>'), ('z', 'uuid')),
}
CODECS = (
    "{'class': 'LZ4Compressor', 'chunk_length_in_kb': 4}", "{'class': 'LZ4Compressor', 'min_compress_ratio': 1.5}",
    "{'class': 'SnappyCompressor', 'chunk_length_in_kb': 64}", "{'class': 'ZstdCompressor'}",
    "{'class': 'DeflateCompressor', 'chunk_length_in_kb': 8}", "{'enabled': 'false'}",
)  # fmt: skip
TIMES = range(1_000_000, 1_000_006)  # write times, microseconds since 1970
EXPIRED, LASTING = 1, 5_000_000  # seconds to live
SECONDS = 2.2  # after which EXPIRED has passed


@dataclasses.dataclass
class Column:
    name: str
    kind: str
    role: str  # partition, clustering, static, regular

    @property
    def many(self) -> bool:
        """Whether it has a cell for each of its parts."""
        return self.role in ('static', 'regular') and (
            self.kind.split('<')[0] in ('list', 'set', 'map') or self.kind in QUOTED
        )


QUOTED = {'point': 'point', '"Odd name"': 'Odd name'}


def quoted(name: str) -> str:
    return f'"{name}"'


class MadeTable:
    """A table and the statements of its history.

    Attributes:
      create: The statement that creates it.
      stages: For each SSTable the statements before it is flushed, of which those of the schema begin with ALTER.
    """

    def __init__(self, keyspace: str, name: str, seed: int, most_stages: int = 8) -> None:
        self.rng = random.Random(seed)
        self.keyspace, self.name = keyspace, name
        rng = self.rng
        self.columns = [self._column(i, 'partition') for i in range(rng.choice([1, 1, 2]))]
        self.columns += [self._column(i, 'clustering') for i in range(rng.choice([0, 1, 1, 1, 2, 3]))]
        if self.of('clustering'):
            self.columns += [self._column(i, 'static') for i in range(rng.choice([0, 0, 1, 2]))]
        self.columns += [
            self._column(i, 'regular')
            for i in range(rng.choice([1, 2, 3, 5, 5, 70] if seed % 10 == 9 else [0, 1, 2, 3, 5]))
        ]
        self.dropped: list[Column] = []
        self.times = TIMES
        # Few keys, so that rows meet.
        self.keys = [[self.literal(c.kind) for c in self.of('partition')] for _ in range(rng.choice([1, 2, 4]))]
        self.clusterings = [
            [one_form(self.literal(c.kind)) for _ in range(rng.choice([1, 2, 4]))] for c in self.of('clustering')
        ]
        self.create = self._create()
        self.stages = [list(self._stage(i)) for i in range(rng.randint(1, most_stages))]

    def of(self, role: str) -> list[Column]:
        return [column for column in self.columns if column.role == role]

    def _column(self, i: int, role: str) -> Column:
        kind = self.kind(
            role in ('partition', 'clustering'), self.rng.choice([0, 0, 1, 2]), role in ('static', 'regular')
        )
        return Column(self.rng.choice([f'{role[0]}{i}', f'{role.title()} {i}']), kind, role)

    def kind(self, ordered: bool, depth: int, many: bool = False) -> str:
        """Returns a CQL type, nested at most `depth` deep.

        Args:
          ordered: Whether it can be compared.
          many: Whether it may have a cell for each of its parts.
        """
        rng = self.rng
        if depth == 0:
            return rng.choice([name for name in SCALARS if not (ordered and name in UNORDERED)])
        part = lambda ordered=ordered: self.kind(ordered, rng.randrange(depth))  # noqa: E731
        shape = rng.choice(['list', 'set', 'map', 'tuple', 'vector', 'point', '"Odd name"'])
        if shape == 'tuple':
            return f'frozen<tuple<{", ".join(part() for _ in range(rng.randint(1, 3)))}>>'
        if shape == 'vector':
            return f'vector<{part()}, {rng.randint(1, 3)}>'
        inner = {
            'list': lambda: f'list<{part()}>',
            'set': lambda: f'set<{part(True)}>',
            'map': lambda: f'map<{part(True)}, {part()}>',
        }
        whole = inner[shape]() if shape in inner else shape
        return whole if many and rng.random() < 0.6 else f'frozen<{whole}>'

    def literal(self, kind: str, frozen: bool = False) -> str:
        """Returns a value of a type as CQL writes it, often one of a few; `frozen`: it is one cell."""
        rng = self.rng
        name, _, rest = kind.partition('<')
        if kind in QUOTED:
            fields = [(field, of) for field, of in TYPES[QUOTED[kind]] if rng.random() < 0.8]
            return (
                '{' + ', '.join(f'{quoted(field)}: {self.literal(of)}' for field, of in fields) + '}'
                if fields
                else self.literal(kind)
            )
        if not rest:
            return SCALAR_LITERALS[name](rng)
        parts = split(rest[:-1])
        some = lambda kind: [self.literal(kind) for _ in range(rng.choice([1, 1, 2, 3]))]  # noqa: E731
        if name == 'frozen':
            return self.literal(parts[0], frozen=True)
        key = (lambda literal: literal) if frozen else one_form
        if name == 'tuple':
            return f'({", ".join(self.literal(part) for part in parts)})'
        if name == 'vector':
            return f'[{", ".join(self.literal(parts[0]) for _ in range(int(parts[1])))}]'
        if name == 'list':
            return f'[{", ".join(some(parts[0]))}]'
        if name == 'set':
            return f'{{{", ".join(map(key, some(parts[0])))}}}'
        return f'{{{", ".join(f"{key(one)}: {self.literal(parts[1])}" for one in some(parts[0]))}}}'

    def _create(self) -> str:
        rng = self.rng
        lines = [f'{quoted(c.name)} {c.kind}' + (' static' if c.role == 'static' else '') for c in self.columns]
        partition = ', '.join(quoted(c.name) for c in self.of('partition'))
        clustering = ''.join(f', {quoted(c.name)}' for c in self.of('clustering'))
        order = ', '.join(f'{quoted(c.name)} {rng.choice(["ASC", "DESC"])}' for c in self.of('clustering'))
        return (
            f'CREATE TABLE {self.keyspace}.{self.name} ({", ".join(lines)}, PRIMARY KEY (({partition}){clustering})) '
            f'WITH compression = {rng.choice(CODECS)} AND gc_grace_seconds = {rng.choice([864000, 864000, 1])} '
            "AND compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
            + (f' AND CLUSTERING ORDER BY ({order})' if order else '')
        )

    def _stage(self, number: int) -> Iterator[str]:
        rng = self.rng
        if number and rng.random() < 0.25:
            yield from self._alter(number)
        for _ in range(rng.choice([1, 4, 12, 25])):
            yield rng.choice([*[self._insert] * 3, *[self._update] * 3, self._delete])()

    def _alter(self, number: int) -> Iterator[str]:
        rng = self.rng
        table = f'ALTER TABLE {self.keyspace}.{self.name}'
        # The server refuses to drop a user-defined type that is not frozen.
        droppable = [c for c in self.columns if c.role in ('static', 'regular') and c.kind not in QUOTED]
        if self.dropped and rng.random() < 0.6:
            column = self.dropped.pop()
            self.columns.append(column)
            yield f'{table} ADD {quoted(column.name)} {column.kind}' + (' static' if column.role == 'static' else '')
        elif droppable and rng.random() < 0.6:
            column = rng.choice(droppable)
            self.columns.remove(column)
            # The server remembers a user-defined type as a tuple, and refuses to add the column again.
            if not any(name in column.kind for name in QUOTED):
                self.dropped.append(column)
            # It reaches all that has been written, and, should the column come back, some that is still to be.
            yield f'{table} DROP {quoted(column.name)} USING TIMESTAMP {self.times[-1]}'
            self.times = range(self.times.start + 3, self.times.stop + 3)
        else:
            column = Column(f'added {number}', self.kind(False, rng.choice([0, 1]), many=True), 'regular')
            self.columns.append(column)
            yield f'{table} ADD {quoted(column.name)} {column.kind}'

    def _where(self, count: int | None = None) -> str:
        """Returns a condition on the partition key and the first `count` clustering columns; None for all of them."""
        names = [quoted(c.name) for c in (*self.of('partition'), *self.of('clustering'))]
        values = [*self.rng.choice(self.keys), *map(self.rng.choice, self.clusterings)]
        wanted = len(self.of('partition')) + (len(self.clusterings) if count is None else count)
        return ' AND '.join(f'{name} = {value}' for name, value in list(zip(names, values, strict=True))[:wanted])

    def _using(self) -> str:
        rng = self.rng
        # Two that differ by the seconds between their stages expire in the same second.
        ttl = rng.choice([None, None, None, None, EXPIRED, LASTING + rng.randrange(4)])
        return f'USING TIMESTAMP {rng.choice(self.times)}' + ('' if ttl is None else f' AND TTL {ttl}')

    def _insert(self) -> str:
        rng = self.rng
        pairs = [(c, v) for c, v in zip(self.of('partition'), rng.choice(self.keys), strict=True)]
        others = [c for c in self.columns if c.role in ('static', 'regular') and rng.random() < 0.6]
        statics = self.of('static')
        if statics and rng.random() < 0.2:
            others = [c for c in others if c.role == 'static'] or statics[:1]  # of the partition alone
        else:
            pairs += [(c, rng.choice(v)) for c, v in zip(self.of('clustering'), self.clusterings, strict=True)]
        pairs += [(c, 'null' if rng.random() < 0.1 else self.literal(c.kind)) for c in others]
        names, values = ', '.join(quoted(c.name) for c, _ in pairs), ', '.join(v for _, v in pairs)
        return f'INSERT INTO {self.keyspace}.{self.name} ({names}) VALUES ({values}) {self._using()}'

    def _update(self) -> str:
        rng = self.rng
        others = [c for c in self.columns if c.role in ('static', 'regular')]
        if not others:
            return self._insert()
        some = rng.sample(others, min(len(others), rng.choice([1, 1, 2, 3])))
        changes = ', '.join(self._change(c) for c in some)
        count = 0 if all(c.role == 'static' for c in some) else None
        return f'UPDATE {self.keyspace}.{self.name} {self._using()} SET {changes} WHERE {self._where(count)}'

    def _change(self, column: Column) -> str:
        rng, name, value = self.rng, quoted(column.name), self.literal(column.kind)
        shape, _, rest = column.kind.partition('<')
        choice = rng.random()
        if not column.many or choice < 0.3:
            return f'{name} = {"null" if choice < 0.05 else value}'
        if column.kind in QUOTED:
            field, kind = rng.choice(TYPES[QUOTED[column.kind]])
            return f'{name}.{quoted(field)} = {"null" if choice < 0.4 else self.literal(kind)}'
        parts = split(rest[:-1])
        if shape == 'map' and choice < 0.6:
            key = one_form(self.literal(parts[0]))
            return f'{name}[{key}] = {"null" if choice < 0.4 else self.literal(parts[1])}'
        if shape == 'map' and choice < 0.7:
            return f'{name} = {name} - {{{self.literal(parts[0])}}}'
        if shape == 'set' and choice < 0.6:
            return f'{name} = {name} - {value}'
        if shape == 'list' and choice < 0.5:
            return f'{name} = {value} + {name}'
        return f'{name} = {name} + {value}'

    def _delete(self) -> str:
        rng = self.rng
        clustering = self.of('clustering')
        table, using = f'{self.keyspace}.{self.name}', f'USING TIMESTAMP {rng.choice(self.times)}'
        regulars, choice = self.of('regular'), rng.random()
        if choice >= 0.4:  # of several cells at once; not of all that is ever written
            using = f'USING TIMESTAMP {rng.choice(self.times[:3])}'
        if regulars and choice < 0.4:
            column = rng.choice(regulars)
            return f'DELETE {quoted(column.name)} FROM {table} {using} WHERE {self._where()}'
        count = rng.randint(0, len(clustering)) if choice < 0.9 else 0
        where = self._where(count)
        if count < len(clustering) and choice < 0.8 and clustering[count].kind not in UNORDERED:
            name, low, high = quoted(clustering[count].name), *(rng.choice(self.clusterings[count]) for _ in range(2))
            where += rng.choice(
                [f' AND {name} > {low}', f' AND {name} >= {low}', f' AND {name} < {high}', f' AND {name} <= {high}',
                 f' AND {name} >= {low} AND {name} < {high}', f' AND {name} > {low} AND {name} <= {high}']
            )  # fmt: skip
        return f'DELETE FROM {table} {using} WHERE {where}'


class WrittenTable:
    """What chance seldom makes: times to live that end together, a column that comes back, each kind of deletion."""

    def __init__(self, keyspace: str, name: str) -> None:
        self.name = name
        table = f'{keyspace}.{name}'
        self.create = (
            f'CREATE TABLE {table} (k int, c int, s int static, v int, w int, l list<int>, PRIMARY KEY (k, c)) '
            "WITH compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
        )
        ending = range(60)  # seconds that may pass between the stages
        insert = f'INSERT INTO {table} (k, c, v, w) VALUES'
        written = [
            f'INSERT INTO {table} (k, c, s, w, l) VALUES ({k}, {c}, {k}, {c}, [{c}]) USING TIMESTAMP 10'
            for k in (3, 4, 5)
            for c in range(9)
        ]
        delete, update = f'DELETE FROM {table} USING TIMESTAMP', f'UPDATE {table} USING TIMESTAMP'
        self.stages = [
            [f'{insert} (1, {n}, 100, {n}) USING TIMESTAMP 10 AND TTL {LASTING + 100}' for n in ending]
            + [f'{insert} (2, {time}, 1, 1) USING TIMESTAMP {time}' for time in range(10, 15)]
            + written,
            [f'{update} 10 AND TTL {LASTING + 100 - n} SET w = -1 WHERE k = 1 AND c = {n}' for n in ending]
            + [f'{delete} {9 + c} WHERE k = 3 AND c = {c}' for c in range(3)]
            + [f'DELETE w FROM {table} USING TIMESTAMP {9 + c - 3} WHERE k = 3 AND c = {c}' for c in (3, 4, 5)]
            + [
                f'{delete} 10 WHERE k = 4',
                f'{delete} 10 WHERE k = 5 AND c > 1 AND c <= 3',
                f'{delete} 9 WHERE k = 5 AND c >= 5',
            ]
            + [f'{update} {9 + c - 6} SET l = [7] WHERE k = 3 AND c = {c}' for c in (6, 7, 8)],
            [f'ALTER TABLE {table} DROP v USING TIMESTAMP 12', f'{update} 11 SET w = 8 WHERE k = 4 AND c = 1']
            + [f'{update} 10 SET l = l + [8] WHERE k = 3 AND c = {c}' for c in range(9)],
            [f'ALTER TABLE {table} ADD v int', f'{insert} (2, 20, 2, 2) USING TIMESTAMP 12'],
        ]


class ManyPartitions:
    """Partitions for an index: many small ones in two SSTables, of which half are in both, and three wide ones."""

    def __init__(self, keyspace: str, name: str) -> None:
        self.name = name
        table = f'{keyspace}.{name}'
        self.create = (
            f'CREATE TABLE {table} (k int, c int, v text, PRIMARY KEY (k, c)) '
            "WITH compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
        )
        insert = f'INSERT INTO {table} (k, c, v) VALUES'
        wide = [f"{insert} ({k}, {c}, '{'x' * 90}')" for k in (-1, -2, -3) for c in range(500)]
        small = [
            [f"{insert} ({k}, {stage}, '{stage}')" for k in range(1000 * stage, 1000 * stage + 2000)]
            for stage in (0, 1)
        ]
        self.stages = [[*small[0], *wide], [*small[1], f'DELETE FROM {table} WHERE k = 1500']]


def one_form(literal: str) -> str:
    """Returns a key with its decimals in one form.

    Of rows and elements whose keys are equal and written otherwise, as 1.5 and 1.50, the server shows any one.
    """
    return literal.replace('1.50', '1.5').replace('0.00', '0')


def split(parameters: str) -> list[str]:
    """Splits the parameters of a type at its commas."""
    parts, depth = [''], 0
    for character in parameters:
        depth += (character == '<') - (character == '>')
        if character == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _timeuuid(rng: random.Random) -> str:
    time = rng.choice([0, 1, 2**32, 2**48, 2**60 - 1])
    clock = rng.choice([0, 0x7F, 0x80, 0xFF]) << 40 | rng.choice([0, 0x7F, 0x80])
    return str(
        uuid.UUID(
            int=(time & 0xFFFFFFFF) << 96 | (time >> 32 & 0xFFFF) << 80 | (1 << 12 | time >> 48) << 64 | 1 << 63 | clock
        )
    )


def one_of(*literals: object) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.choice(literals))


def text_of(characters: str) -> Callable[[random.Random], str]:
    return lambda rng: "'" + ''.join(rng.choice(characters) for _ in range(rng.choice([0, 1, 2, 9, 40]))) + "'"


_UUIDS = [uuid.UUID(int=n) for n in (0, 1, 2**127, 2**128 - 1)] + ['00000000-0000-4000-8000-00000000000f']
SCALAR_LITERALS: dict[str, Callable[[random.Random], str]] = {
    'ascii': text_of('ab~ '),
    'text': text_of('ab~éß漢😀'),
    'blob': lambda rng: '0x' + bytes(rng.choice([0, 1, 127, 128, 255]) for _ in range(rng.choice([0, 1, 2, 20]))).hex(),
    'boolean': one_of('true', 'false'),
    'tinyint': one_of(-128, -1, 0, 1, 127),
    'smallint': one_of(-(2**15), -1, 0, 1, 255, 2**15 - 1),
    'int': one_of(-(2**31), -256, -1, 0, 1, 256, 2**31 - 1),
    'bigint': one_of(-(2**63), -(2**32), -1, 0, 1, 2**32, 2**63 - 1),
    'varint': one_of(-(2**63), -257, -256, -129, -128, -1, 0, 1, 127, 128, 255, 256, 2**62),
    'decimal': one_of('-10.5', '-1.50', '-1.5', '-1E-9', '0', '0.00', '1.5', '1.50', '9', '10', '1E3', '1234567.98765'),
    'float': one_of('NaN', 'Infinity', '-Infinity', '-0.0', '0.0', '1.5', '-1.5', '3e38', '1e-45'),
    'double': one_of('NaN', 'Infinity', '-Infinity', '-0.0', '0.0', '1.5', '-1.5', '1e308', '5e-324'),
    'date': one_of("'1969-12-31'", "'1970-01-01'", "'2013-01-01'", "'-2000-01-01'"),
    'time': one_of("'00:00:00'", "'12:34:56.789012345'", "'23:59:59.999999999'"),
    'timestamp': one_of(-(2**40), -1, 0, 1, 1356998400000),
    'duration': one_of('1mo2d3h', '-5d', '7ns', '0s'),
    'uuid': lambda rng: rng.choice([_timeuuid(rng), str(rng.choice(_UUIDS))]),
    'timeuuid': _timeuuid,
    'inet': one_of("'127.0.0.1'", "'255.0.0.0'", "'::1'", "'fe80::1'"),
}  # fmt: skip
