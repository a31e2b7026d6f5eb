"""A plugin of pytest that switches one mechanism of the package off, the one that SWITCHED_OFF names."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

VARIABLE = 'SWITCHED_OFF'


def ledger() -> None:
    """The ledger of a scan takes whatever was read for everything."""
    from tfx_cassandra.components.scan import area

    area.faults = lambda *_: area.Faults([], [], [])


def retry() -> None:
    """No page of a scan is asked for a second time."""
    from tfx_cassandra.components.scan.reading import Reading

    count = Reading.record_failure
    Reading.record_failure = lambda self, failure: count(self, failure) and False


def transaction() -> None:
    """A version is claimed by writes without a condition."""
    from tfx_cassandra.components.registry import claims

    def claim_once(self: Any, experiment_id: str, model_id: str, digest: str) -> claims.Claim:
        held = self._read_claim(experiment_id, model_id, digest)
        if held is not None:
            return held
        version = claims.next_version(time.time(), self._read_last_version(experiment_id, model_id))
        claim = claims.Claim(version, claims.moment(version))
        keyspace, key = self._session._connection.keyspace, (experiment_id, model_id)
        self._session.driver.execute(
            f'INSERT INTO {keyspace}.model_claims (experiment_id, model_id, digest, version, created_at, last_version)'
            ' VALUES (%s, %s, %s, %s, %s, %s)',
            (*key, digest, version, claim.created_at, version),
        )
        return claim

    claims.ModelClaims._claim_once = claim_once


def event_time() -> None:
    """Rows have the write time of their writing, whatever their own time is."""
    from tfx_cassandra.components.write import rows

    usual = rows.Arrays._times

    def times(self: Any, source: Any) -> Any:
        found = usual(self, source)
        return found if found is None else pa.array([time.time_ns() // 1000] * len(found), pa.int64())

    rows.Arrays._times = times


def host_name() -> None:
    """The address that a node's certificate holds is not compared with the node's."""
    from tfx_cassandra.components.driver import connection, opening

    usual = opening.tls_context

    def context(tls: Any) -> ssl.SSLContext:
        made = usual(tls)
        made.check_hostname = False
        return made

    opening.tls_context = connection.tls_context = context


MECHANISMS: dict[str, Callable[[], None]] = {
    'coverage ledger': ledger, 'retry': retry, 'lightweight transaction': transaction,
    'event-time timestamp': event_time, 'host-name check': host_name,
}  # fmt: skip


def pytest_configure() -> None:
    """Switches the mechanism off before any test is imported."""
    if os.environ.get(VARIABLE):
        MECHANISMS[os.environ[VARIABLE]]()
