"""Aliases of versions, such as `champion`: each is the newest row of its history in `model_aliases`.

A move is one conditional insert of the next row, so the alias and its history cannot differ, whenever a process dies.
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
    ANY = 'any'


# In the place of an expected move: whatever the alias names now.
ANY = AnyMove.ANY


@dataclasses.dataclass(frozen=True)
class AliasMove:
    """One row of `model_aliases`: an alias came to name a version.

    Attributes:
      experiment_id: The experiment the alias belongs to.
      alias: Its name.
      number: 1 for the alias's first move, then one more each time.
      model_id: The model of the version it names since.
      version: The version it names since.
      action: 'promote' or 'rollback'.
      reason: Why, in the words of who moved it.
      moved_at: When, by the mover's clock; None where others wrote a moment that no datetime can hold.
      before: The number of the move that a rollback from here restores, or None where there is none.
      move_id: Tells this move from another that wanted the same number.
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
        """Returns whether the alias names this version since."""
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
        """Returns the move that an alias stands at, which holds the version it names; None for an unknown alias."""
        return next(self._moves('alias', experiment_id, alias), None)

    def aliases(self, experiment_id: str) -> Moves:
        """Returns the move that each alias of an experiment stands at, by the alias's name."""
        return tuple(self._moves('aliases', experiment_id))

    def history(self, experiment_id: str, alias: str) -> Moves:
        """Returns every move of an alias, newest first."""
        return tuple(self._moves('history', experiment_id, alias))

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

        def decide(past: Moves) -> AliasMove:
            head = next(iter(past), None)
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

        def decide(past: Moves) -> AliasMove:
            head = next(iter(past), None)
            if head is not None and (
                _is_later(head, model_id, version) or any(move.names(model_id, version) for move in past)
            ):
                return head
            return _next(head, (experiment_id, alias, model_id, version), reason)

        return self._move(experiment_id, alias, decide, past='moves')

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

        def decide(past: Moves) -> AliasMove:
            if not past:
                raise unknown_alias(experiment_id, alias)
            head = past[0]
            _check_expected(alias, head, start)
            if head.before is None:
                rule = f'a version before {_version_of(head)}, the first it named'
                raise RegistryError(f'alias: got {alias!r}, rule: {rule}')
            (target,) = self._decided('target', experiment_id, alias, head.before)
            move = _next(head, (experiment_id, alias, target.model_id, target.version), reason)
            return dataclasses.replace(move, action='rollback', before=target.before)

        return self._move(experiment_id, alias, decide)

    def _move(
        self, experiment_id: str, alias: str, decide: Callable[[Moves], AliasMove], past: str = 'head'
    ) -> AliasMove:
        """Appends the move that `decide` returns for the past of the alias, unless it returns the head itself.

        Args:
          experiment_id: The experiment of the alias.
          alias: Its name.
          decide: Is given what `past` reads, newest first.
          past: The statement that reads the head alone, or every move.
        """
        # One for the whole call: which of several attempts was applied is then of no account.
        move_id, tried = uuid.uuid4(), 0

        def attempt() -> AliasMove | None:
            nonlocal tried
            moves = tuple(self._decided(past, experiment_id, alias))
            if tried:
                # The answer to an earlier attempt may have been lost. After the head, for what was found neither
                # there nor here cannot stand behind a later move.
                for there in self._decided('target', experiment_id, alias, tried):
                    if there.move_id == move_id:
                        return there
            move = decide(moves)
            if move in moves:
                return move
            tried = move.number
            move = dataclasses.replace(move, move_id=move_id)
            result = self._session.execute('move', *(getattr(move, column) for column in _COLUMNS))
            return move if result.was_applied else None

        return self._session.settle(attempt, f'alias: got {alias!r}, rule: it can be moved')

    def _current(self, experiment_id: str, alias: str) -> AliasMove | None:
        what = f'alias: got {alias!r}, rule: its moves can be read'
        return next(iter(self._session.settle(lambda: tuple(self._decided('head', experiment_id, alias)), what)), None)

    def _decided(self, statement: str, *values: object) -> Iterator[AliasMove]:
        return map(_alias_move, self._session.execute(statement, *values))

    def _moves(self, statement: str, experiment_id: str, *alias: str) -> Iterator[AliasMove]:
        named('experiment_id', experiment_id)
        for name in alias:
            named('alias', name)
        try:
            yield from self._decided(statement, experiment_id, *alias)
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
    # What is no number was not pushed here, and is neither earlier nor later.
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
