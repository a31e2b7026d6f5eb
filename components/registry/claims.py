"""Claims a version number for the files of a model, before anything is copied.

Only lightweight transactions write `model_claims`, so any number of pushers agree.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import time
from typing import Any, ClassVar

from tfx_cassandra.components.driver.responses import checked_row, utc
from tfx_cassandra.components.errors import RegistryError, invalid
from tfx_cassandra.components.registry.session import RegistrySession

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Claim:
    """The version of one model's files, and the moment that the version stands for."""

    version: int
    created_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class HeldClaim:
    """One row of `model_claims`.

    Attributes:
      digest: SHA-256 over the files of the model.
      claim: Their version.
      attempted_at: When a push of them last began, by the pusher's clock; None for rows older than the column.
    """

    digest: str
    claim: Claim
    attempted_at: datetime.datetime | None


_MAX_KEY_BYTES = 65_535
_KEY = 'experiment_id = ? AND model_id = ? AND digest = ?'


class ModelClaims:
    """Reads and writes `model_claims`; see ModelRegistry for what its methods guarantee."""

    STATEMENTS: ClassVar[dict[str, str]] = {
        'claim': 'INSERT INTO {keyspace}.model_claims (experiment_id, model_id, digest, version, created_at,'
        ' attempted_at) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS',
        'advance': 'UPDATE {keyspace}.model_claims SET last_version = ? WHERE experiment_id = ? AND model_id = ?'
        ' IF last_version = ?',
        'attempt': f'UPDATE {{keyspace}}.model_claims SET attempted_at = ? WHERE {_KEY} IF version = ?',
        'release': f'DELETE FROM {{keyspace}}.model_claims WHERE {_KEY} IF version = ? AND attempted_at = ?',
    }
    SERIAL_READS: ClassVar[dict[str, str]] = {
        'claimed': f'SELECT version, created_at FROM {{keyspace}}.model_claims WHERE {_KEY}',
        'claims': 'SELECT digest, version, created_at, attempted_at FROM {keyspace}.model_claims'
        ' WHERE experiment_id = ? AND model_id = ?',
        'last': 'SELECT last_version FROM {keyspace}.model_claims WHERE experiment_id = ? AND model_id = ? LIMIT 1',
    }

    def __init__(self, session: RegistrySession) -> None:
        self._session = session

    def claim(self, experiment_id: str, model_id: str, digest: str) -> Claim:
        """Returns the version of one model's files, claiming a new one the first time."""
        for field, value in (('experiment_id', experiment_id), ('model_id', model_id), ('digest', digest)):
            named(field, value)
        message = f'model_id: got {model_id!r}, rule: its version can be claimed'
        return self._session.settle(lambda: self._claim_once(experiment_id, model_id, digest), message)

    def claimed(self, experiment_id: str, model_id: str, digest: str) -> Claim | None:
        """Returns the version of one model's files, or None if none was claimed for them."""
        _check_model(experiment_id, model_id)
        message = f'model_id: got {model_id!r}, rule: its claims can be read'
        return self._session.settle(lambda: (self._read_claim(experiment_id, model_id, digest),), message)[0]

    def claims(self, experiment_id: str, model_id: str) -> tuple[HeldClaim, ...]:
        """Returns every claim of a model, greater versions first."""
        _check_model(experiment_id, model_id)
        message = f'model_id: got {model_id!r}, rule: its claims can be read'
        rows = self._session.settle(lambda: self._session.execute('claims', experiment_id, model_id).all(), message)
        # A partition with nothing but its counter is one row without a digest.
        claims = [claim for row in rows if row.digest is not None and (claim := _held_claim(row, model_id)) is not None]
        return tuple(sorted(claims, key=lambda held: held.claim.version, reverse=True))

    def last_version(self, experiment_id: str, model_id: str) -> int | None:
        """Returns the greatest version ever claimed for a model, released or not; None if there is none."""
        _check_model(experiment_id, model_id)
        message = f'model_id: got {model_id!r}, rule: its claims can be read'
        return self._session.settle(lambda: (self._read_last_version(experiment_id, model_id),), message)[0]

    def release(self, experiment_id: str, model_id: str, held: HeldClaim) -> bool:
        """Releases a claim unless a push has started again since it was read; returns whether it is released.

        The number is not used again: versions only grow. The same files get a new version when they are pushed later.
        """
        key = (experiment_id, model_id, held.digest)

        def attempt() -> bool:
            self._session.execute('release', *key, held.claim.version, held.attempted_at)
            return self._read_claim(*key) != held.claim

        return self._session.settle(attempt, f'model_id: got {model_id!r}, rule: its claim can be released')

    def _claim_once(self, experiment_id: str, model_id: str, digest: str) -> Claim | None:
        """Returns the claim, or None if another pusher of the model wrote between the read and the write."""
        model, now = (experiment_id, model_id), time.time()
        held = self._read_claim(experiment_id, model_id, digest)
        if held is not None:
            # Records that a push has started, and checks that the claim has not been released meanwhile.
            attempt = self._session.execute('attempt', _milliseconds(now), *model, digest, held.version)
            return held if attempt.was_applied else None
        last = self._read_last_version(*model)
        claim = Claim(version := next_version(now, last), moment(version))
        # One conditional batch in one partition: the claim and the counter change together or not at all.
        values = (*model, digest, claim.version, claim.created_at, _milliseconds(now))
        done = self._session.execute_batch(('claim', values), ('advance', (claim.version, *model, last)))
        return claim if done.was_applied else None

    def _read_claim(self, experiment_id: str, model_id: str, digest: str) -> Claim | None:
        row = self._session.execute('claimed', experiment_id, model_id, digest).one()
        if row is None:
            return None
        try:
            return Claim(row.version, utc('created_at', row.created_at))
        except ValueError as error:
            rule = f'a claim with valid values ({error})'
            raise RegistryError(f'version: got {row.version!r} of {model_id!r}, rule: {rule}') from error

    def _read_last_version(self, experiment_id: str, model_id: str) -> int | None:
        row = self._session.execute('last', experiment_id, model_id).one()
        return None if row is None else row.last_version


def _check_model(experiment_id: str, model_id: str) -> None:
    named('experiment_id', experiment_id)
    named('model_id', model_id)


def named(field: str, value: object) -> str:
    """Returns `value` if it is a non-empty text that fits into a key; raises ValueError naming `field` if not."""
    if not isinstance(value, str) or not value:
        raise invalid(field, value, 'a non-empty text')
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise invalid(field, value, 'a text that UTF-8 can encode') from error
    if size > _MAX_KEY_BYTES:
        raise invalid(field, f'{value[:20]}...', f'at most {_MAX_KEY_BYTES:,} bytes, but it has {size:,}')
    return value


def next_version(now: float, last: int | None) -> int:
    """Returns the version that follows `last` (None for a model without one) at `now`, in Unix seconds."""
    return max(int(now), (last or 0) + 1)


def moment(version: int) -> datetime.datetime:
    """Returns the moment a claimed version stands for: the version as Unix seconds."""
    return datetime.datetime.fromtimestamp(version, datetime.timezone.utc)


def _held_claim(row: Any, model_id: str) -> HeldClaim | None:
    """Returns the claim of a row, or None for a row with invalid values, which must not hide the rest."""
    try:
        checked_row(row)
        claim = Claim(row.version, utc('created_at', row.created_at))
    except ValueError as error:
        _log.warning('Claim %s of model %r is skipped: %s', row.digest, model_id, error)
        return None
    # A time that no datetime can represent counts as absent. Such a claim is not released: its condition fails.
    attempted_at = utc('attempted_at', row.attempted_at) if isinstance(row.attempted_at, datetime.datetime) else None
    return HeldClaim(row.digest, claim, attempted_at)


def _milliseconds(now: float) -> datetime.datetime:
    """Returns Unix seconds as a datetime with the precision of Cassandra."""
    return moment(0) + datetime.timedelta(milliseconds=int(now * 1000))
