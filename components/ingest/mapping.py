"""Which field of the input goes into which column: a file of YAML or JSON, or options of the command.

    columns: {model_id: station, timestamp: observed_at}     column of the table: field of the input
    constants: {feature_name: temp}                          column of the table: the text of its value
    features: {temp: temp_c, humid: humid}                   long layout: feature name: field of the input

With `features`, each record becomes a row per feature that it has a value of.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping as Texts
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx_cassandra.components.checks import Name, check_fields
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.errors import SchemaError, invalid

_PARTS = ('columns', 'constants', 'features')


@dataclasses.dataclass(frozen=True)
class Mapping:
    """How records become rows.

    Attributes:
      columns: (column, field) pairs; empty if each field has the name of its column.
      constants: (column, text) pairs of columns that have one value in all rows.
      features: (feature name, field) pairs of the long layout; empty for one row per record.
      feature_name_column: Column of the feature names.
      value_column: Column of the features' values.

    Raises:
      ValueError: A column would have two values.
    """

    columns: tuple[tuple[Name, Name], ...] = ()
    constants: tuple[tuple[Name, str], ...] = ()
    features: tuple[tuple[Name, Name], ...] = ()
    feature_name_column: Name = 'feature_name'
    value_column: Name = 'value'

    def __post_init__(self) -> None:
        check_fields(self, 'mapping.')
        names = [name for name, _ in (*self.columns, *self.constants)]
        if self.features:
            names += [self.feature_name_column, self.value_column]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise invalid('mapping', twice, 'each column has one source: a field, a constant or the features')

    @property
    def digest(self) -> str:
        """A text that is equal for equal mappings."""
        return hashlib.sha256(json.dumps(dataclasses.astuple(self)).encode()).hexdigest()[:16]

    def fields(self, table: Table, known: Sequence[str] | None) -> dict[str, str]:
        """Returns the field of each column that comes from the input, without features: column -> field.

        Args:
          table: The live table.
          known: The fields of the input; None if each record has its own, as JSON lines do.

        Raises:
          SchemaError: The table lacks a column, or the input a field; or a field belongs to no column.
        """
        types = dict(table.types)
        for column, _ in (*self.columns, *self.constants):
            table.type_of('mapping', column)
        for column in (self.feature_name_column, self.value_column) if self.features else ():
            table.type_of('features', column)
        if self.columns:
            chosen = dict(self.columns)
        else:
            taken = {column for column, _ in self.constants} | self._long
            of_features = {field for _, field in self.features}
            names = types if known is None else known
            chosen = {name: name for name in names if name in types and name not in taken}
            unknown = sorted(set(names) - set(types) - of_features)
            if unknown:
                rule = f'columns of {table} ({", ".join(sorted(types))}), or a mapping that names the fields wanted'
                raise SchemaError(f'fields: got {unknown}, rule: {rule}')
        self._check(table, chosen, known)
        return chosen

    @property
    def _long(self) -> set[str]:
        return {self.feature_name_column, self.value_column} if self.features else set()

    def _check(self, table: Table, chosen: Texts[str, str], known: Sequence[str] | None) -> None:
        wanted = [*chosen.values(), *(field for _, field in self.features)]
        if known is not None and (absent := sorted(set(wanted) - set(known))):
            raise SchemaError(f'fields: got {sorted(known)}, rule: with {", ".join(map(repr, absent))}')
        clustering = () if table.static else table.clustering  # a row without them writes static columns
        given = {*chosen, *self._long, *(column for column, _ in self.constants)}
        if missing := [name for name in (*table.own_partition_key, *clustering) if name not in given]:
            rule = f'a field or a constant for each column of the primary key of {table}'
            raise SchemaError(f'fields: got none for {", ".join(map(repr, missing))}, rule: {rule}')


def parse(path: Path) -> Mapping:
    """Reads a mapping from a file of YAML or JSON; see the module.

    Raises:
      ValueError: It is no such file; the message names it.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise invalid(
            'mapping', str(path), f'a readable file of YAML or JSON ({" ".join(str(error).split())})'
        ) from error
    return of_parts(found, f' in {path}')


def of_parts(found: Any, where: str = '') -> Mapping:
    """Returns the mapping of an object with the parts of a mapping file; `where` ends the messages."""
    names = {field.name for field in dataclasses.fields(Mapping)}
    if not isinstance(found, dict) or not set(found) <= names:
        raise invalid('mapping', found, f'an object with {", ".join(sorted(names))}{where}')
    fields = dict(found)
    for part in _PARTS:
        given = fields.get(part, {})
        if isinstance(given, list) and part != 'constants':
            given = (
                {name: name for name in given if isinstance(name, str)}
                if all(isinstance(n, str) for n in given)
                else None
            )
        if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
            raise invalid(f'mapping.{part}', fields[part], f'an object of texts{where}')
        fields[part] = tuple((name, _text(value) if part == 'constants' else value) for name, value in given.items())
    return Mapping(**fields)


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else json.dumps(value)
