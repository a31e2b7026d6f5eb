"""Aliases of versions, such as `champion`: an alias points at the version in the newest row of its history.

A move is one conditional insert of the next row into `model_aliases`, so alias and history cannot disagree after a
crash.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.responses import checked_row, utc
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry.claims import named
from tfx_cassandra.components.registry.session import RegistrySession
from tfx_cassandra.components.registry.versions import ModelVersions


class AnyMove(enum.Enum):
    """The type of ANY."""

    ANY = 'any'


# As the expected move: any, so the alias is moved from wherever it points.
ANY = AnyMove.ANY


@dataclasses.dataclass(frozen=True)
class AliasMove:
    """One row of `model_aliases`: an alias was pointed at a version.

    Attributes:
      experiment_id: The experiment of the alias.
      alias: Its name.
      number: 1 for the alias's first move, then one more for each move.
      model_id: The model of the version that it points at.
      version: The version that it points at.
      action: 'promote' or 'rollback'.
      reason: The reason that was given for the move.
      moved_at: The time of the move by the mover's clock; None if the row holds one that no datetime can represent.
      before: The number of the move that a rollback from here restores, or None if there is none.
      move_id: Distinguishes this move from another that tried the same number.
    """

    experiment_id: str
    alias: str
    number: int
    model_id: str
    version: str
    action: str
    reason: str | None
    moved_at: datetime.datetime | None
    before: int | None
    move_id: uuid.UUID

    def names(self, model_id: str, version: str) -> bool:
        """Returns whether this move points the alias at the version."""
        return (self.model_id, self.version) == (model_id, version)


Moves: TypeAlias = tuple[AliasMove, ...]  # newest first

_COLUMNS = tuple(field.name for field in dataclasses.fields(AliasMove))
_SELECT = f'SELECT {", ".join(_COLUMNS)} FROM {{keyspace}}.model_aliases WHERE experiment_id = ?'


class ModelAliases:
    """Reads and writes `model_aliases`; see ModelRegistry for what its methods guarantee."""

    STATEMENTS: ClassVar[dict[str, str]] = {
        'move': f'INSERT INTO {{keyspace}}.model_aliases ({", ".join(_COLUMNS)})'
        f' VALUES ({", ".join("?" * len(_COLUMNS))}) IF NOT EXISTS',
        'alias': f'{_SELECT} AND alias = ? LIMIT 1',
        # Each group's first row, which is its newest.
        'aliases': f'{_SELECT} GROUP BY experiment_id, alias',
        'history': f'{_SELECT} AND alias = ?',
    }
    SERIAL_READS: ClassVar[dict[str, str]] = {
        'head': f'{_SELECT} AND alias = ? LIMIT 1',
        'moves': f'{_SELECT} AND alias = ?',
        'target': f'{_SELECT} AND alias = ? AND number = ?',
    }

    def __init__(self, session: RegistrySession, versions: ModelVersions) -> None:
        self._session, self._versions = session, versions

    def alias(self, experiment_id: str, alias: str) -> AliasMove | None:
        """Returns the newest move of an alias, with the version that it points at; None for an unknown alias."""
        return next(self._read_once('alias', experiment_id, alias), None)

    def aliases(self, experiment_id: str) -> Moves:
        """Returns the newest move of each alias of an experiment, sorted by alias."""
        return tuple(self._read_once('aliases', experiment_id))

    def history(self, experiment_id: str, alias: str) -> Moves:
        """Returns every move of an alias, newest first."""
        return tuple(self._read_once('history', experiment_id, alias))

    def promote(
        self,
        experiment_id: str,
        alias: str,
        model_id: str,
        version: str,
        *,
        expected: AliasMove | AnyMove | None = ANY,
        reason: str | None = None,
    ) -> AliasMove:
        """Points an alias at a version, and returns its newest move."""
        named('alias', alias)
        self._versions.recorded(experiment_id, model_id, version)

        def decide(moves: Moves) -> AliasMove:
            head = next(iter(moves), None)
            if head is not None and head.names(model_id, version):
                return head
            _check_expected(alias, head, expected)
            return _next(head, (experiment_id, alias, model_id, version), reason)

        return self._move(experiment_id, alias, decide)

    def advance(
        self, experiment_id: str, alias: str, model_id: str, version: str, *, reason: str | None = None
    ) -> AliasMove:
        """Points an alias at a version that was just pushed, once, and returns its newest move."""
        named('alias', alias)
        self._versions.recorded(experiment_id, model_id, version)

        def decide(moves: Moves) -> AliasMove:
            head = next(iter(moves), None)
            if head is not None and (
                _is_later(head, model_id, version) or any(move.names(model_id, version) for move in moves)
            ):
                return head
            return _next(head, (experiment_id, alias, model_id, version), reason)

        return self._move(experiment_id, alias, decide, read='moves')

    def rollback(
        self,
        experiment_id: str,
        alias: str,
        *,
        expected: AliasMove | AnyMove = ANY,
        reason: str | None = None,
    ) -> AliasMove:
        """Points an alias at the version before its latest promotion, and returns the new move."""
        named('experiment_id', experiment_id)
        named('alias', alias)
        start = self._current(experiment_id, alias) if expected is ANY else expected

        def decide(moves: Moves) -> AliasMove:
            if not moves:
                raise unknown_alias(experiment_id, alias)
            head = moves[0]
            _check_expected(alias, head, start)
            if head.before is None:
                rule = f'a version before {_version_of(head)}, its first'
                raise RegistryError(f'alias: got {alias!r}, rule: {rule}')
            (target,) = self._read('target', experiment_id, alias, head.before)
            move = _next(head, (experiment_id, alias, target.model_id, target.version), reason)
            return dataclasses.replace(move, action='rollback', before=target.before)

        return self._move(experiment_id, alias, decide)

    def _move(
        self, experiment_id: str, alias: str, decide: Callable[[Moves], AliasMove], read: str = 'head'
    ) -> AliasMove:
        """Appends the move that `decide` returns, unless it returns an existing one.

        Args:
          experiment_id: The experiment of the alias.
          alias: Its name.
          decide: Returns the next move, or an existing one, given the moves that `read` found, newest first.
          read: The statement that reads the newest move ('head') or every move ('moves').
        """
        # One id for the whole call, so that it does not matter which of several attempts was applied.
        move_id, attempted = uuid.uuid4(), 0

        def attempt() -> AliasMove | None:
            nonlocal attempted
            moves = tuple(self._read(read, experiment_id, alias))
            if attempted:
                # The response to an earlier attempt may have been lost. Read after the head: a move that is in neither
                # was not applied, and no later move has hidden it.
                for stored in self._read('target', experiment_id, alias, attempted):
                    if stored.move_id == move_id:
                        return stored
            move = decide(moves)
            if move in moves:
                return move
            attempted = move.number
            move = dataclasses.replace(move, move_id=move_id)
            result = self._session.execute('move', *(getattr(move, column) for column in _COLUMNS))
            return move if result.was_applied else None

        return self._session.settle(attempt, f'alias: got {alias!r}, rule: it can be moved')

    def _current(self, experiment_id: str, alias: str) -> AliasMove | None:
        message = f'alias: got {alias!r}, rule: its moves can be read'
        return next(iter(self._session.settle(lambda: tuple(self._read('head', experiment_id, alias)), message)), None)

    def _read(self, statement: str, *values: object) -> Iterator[AliasMove]:
        return map(_alias_move, self._session.execute(statement, *values))

    def _read_once(self, statement: str, experiment_id: str, *alias: str) -> Iterator[AliasMove]:
        named('experiment_id', experiment_id)
        for name in alias:
            named('alias', name)
        try:
            yield from self._read(statement, experiment_id, *alias)
        except DRIVER_ERRORS as error:
            rule = f'its aliases can be read ({one_line(error)})'
            raise RegistryError(f'experiment_id: got {experiment_id!r}, rule: {rule}') from error


def unknown_alias(experiment_id: str, alias: str) -> RegistryError:
    """Returns the error for an alias that was never moved."""
    return RegistryError(f'alias: got {alias!r}, rule: an alias of experiment {experiment_id!r}')


def _next(head: AliasMove | None, target: tuple[str, str, str, str], reason: str | None) -> AliasMove:
    """Returns the promotion that follows a head to (experiment_id, alias, model_id, version)."""
    experiment_id, alias, model_id, version = target
    now = datetime.datetime.now(datetime.timezone.utc)
    return AliasMove(
        experiment_id,
        alias,
        number=1 if head is None else head.number + 1,
        model_id=model_id,
        version=version,
        action='promote',
        reason=reason,
        moved_at=now.replace(microsecond=now.microsecond // 1000 * 1000),  # as Cassandra stores it
        before=None if head is None else head.number,
        move_id=uuid.uuid4(),
    )


def _check_expected(alias: str, head: AliasMove | None, expected: AliasMove | AnyMove | None) -> None:
    if expected is not ANY and head != expected:
        rule = f'still {_version_of(expected)}, but it is {_version_of(head)}'
        raise RegistryError(f'alias: got {alias!r}, rule: {rule}')


def _version_of(move: AliasMove | None) -> str:
    return 'nothing' if move is None else f'version {move.version!r} of {move.model_id!r} (move {move.number})'


def _is_later(head: AliasMove, model_id: str, version: str) -> bool:
    # A version that is not a number was not pushed by this package, and has no order.
    numbers = head.version.isdecimal() and version.isdecimal()
    return numbers and head.model_id == model_id and int(head.version) > int(version)


def _alias_move(row: Any) -> AliasMove:
    try:
        checked_row(row)
    except ValueError as error:
        raise RegistryError(f'alias: got move {row.number} of {row.alias!r}, rule: it can be read ({error})') from error
    values = {column: getattr(row, column) for column in _COLUMNS}
    moved_at = utc('moved_at', row.moved_at) if isinstance(row.moved_at, datetime.datetime) else None
    return AliasMove(**values | {'moved_at': moved_at})
