"""What makes a live keyspace as declared: the statements that only add, and the steps for what they cannot change.

Pure: relations in, CQL and texts out.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from tfx_cassandra.components.schema.compare import Difference, differences
from tfx_cassandra.components.schema.cql import literal, with_keyspace
from tfx_cassandra.components.schema.tables import Relation


@dataclasses.dataclass(frozen=True)
class Addition:
    """A statement that adds something to a keyspace and changes nothing in it.

    Attributes:
      relation: The relation that it creates or extends.
      cql: The statement.
    """

    relation: Relation
    cql: str


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A difference that `schema.apply` leaves, because CQL cannot change it or data would be dropped or rewritten.

    Attributes:
      difference: What differs.
      steps: What to do instead, in order: commands, CQL, or a sentence.
    """

    difference: Difference
    steps: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f'  {number}. {step}' for number, step in enumerate(self.steps, 1)]
        return '\n'.join([str(self.difference), *lines])


@dataclasses.dataclass(frozen=True)
class Migration:
    """What `schema.apply` does to a live keyspace, and what it does not do.

    Attributes:
      statements: The CQL that it executes, in order.
      refused: Differences of definition: a type, a key, an order, a view's columns. The keyspace does not become the
        declared version until they are gone.
      left: Differences of options, with the statement that would set each.
    """

    statements: tuple[str, ...]
    refused: tuple[Refusal, ...]
    left: tuple[Refusal, ...]


def additions(declared: Sequence[Relation], live: Mapping[str, Relation], keyspace: str) -> Iterator[Addition]:
    """Yields what a live keyspace lacks, in an order in which it can be added."""
    for relation in declared:
        for cql in _missing(relation, live.get(relation.name)):
            yield Addition(relation, with_keyspace(cql, keyspace))


def refusals(declared: Sequence[Relation], live: Mapping[str, Relation], keyspace: str) -> Iterator[Refusal]:
    """Yields what adding cannot change, with what to do instead: definitions and options, in order."""
    for relation in declared:
        there = live.get(relation.name)
        for difference in differences(relation, there):
            if difference.kind != 'missing' and there is not None:
                yield Refusal(difference, tuple(_steps(relation, there, difference, keyspace)))


def replication_refusal(difference: Difference, keyspace: str, options: Mapping[str, str]) -> Refusal:
    """Returns a difference of replication with the steps that change it."""
    alter = with_keyspace(f'ALTER KEYSPACE {{keyspace}} WITH replication = {literal(options)}', keyspace)
    return Refusal(difference, (alter, f'nodetool repair --full {keyspace}, on each node: the new replicas are empty'))


def digest(declared: Sequence[Relation]) -> str:
    """Returns the version of a declaration: SHA-256 over its statements, without their comments."""
    lines = (line for relation in declared for line in relation.cql.splitlines() if not line.startswith('--'))
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def _missing(relation: Relation, live: Relation | None) -> Iterator[str]:
    if live is None:
        yield relation.cql
        return
    for difference in differences(relation, live):
        if difference.kind == 'missing':
            name = difference.where.removeprefix(f'{relation.name}.')
            column = relation.columns[name]
            static = ' static' if column.kind == 'static' else ''
            yield (
                f'ALTER {relation.kind.upper()} {{keyspace}}.{relation.name} '
                f'ADD IF NOT EXISTS {name} {column.type}{static}'
            )


_WORDS = {'view': 'MATERIALIZED VIEW', 'index': 'INDEX', 'table': 'TABLE', 'type': 'TYPE'}


def _steps(relation: Relation, live: Relation, difference: Difference, keyspace: str) -> Iterator[str]:
    name = with_keyspace(f'{{keyspace}}.{relation.name}', keyspace)
    if difference.kind == 'option':
        option = difference.where.removeprefix(f'{relation.name}.')
        note = ' -- every SSTable of the table is compacted anew' if option == 'compaction' else ''
        yield f'ALTER TABLE {name} WITH {option} = {literal(relation.options[option])}{note}'
    elif live.kind != relation.kind:
        yield f'move what needs {live.kind} {name} to another name'
        yield f'DROP {_WORDS[live.kind]} {name}'
        yield f'tfx-cassandra schema apply --keyspace {keyspace}'
    elif relation.kind in ('view', 'index'):
        # Built anew from its table: nothing is lost, but readers wait for it.
        yield f'stop the readers of {name}'
        yield f'DROP {_WORDS[live.kind]} {name}'
        yield f'tfx-cassandra schema apply --keyspace {keyspace} -- the server builds it anew from its table'
    elif relation.kind == 'type':
        yield f'declare a new type in the place of {relation.name}, and a new column of it; a field keeps its type'
    else:
        yield from _copied(relation.name, keyspace)


def _copied(table: str, keyspace: str) -> Iterator[str]:
    """Yields the way to a table with another definition: CQL alters no type, key or order."""
    other = f'{keyspace[:46]}_2'
    yield f'tfx-cassandra schema apply --keyspace {other} -- the declared tables, beside the old ones'
    yield f'write to both keyspaces; then copy {keyspace}.{table} to {other}.{table} (docs/schema-migrations.md)'
    yield f'compare both, and set CASSANDRA_KEYSPACE={other} for the readers, then for the writers'
    yield f'DROP TABLE "{keyspace}".{table} when nothing reads it'
