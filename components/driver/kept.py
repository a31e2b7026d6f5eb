"""Sessions that the steps of a pipeline have left, kept for a moment for the next step of the same process.

A runner sets a function up and tears it down for each step, and a process runs many steps. A session that was opened
for each would mean a connection to every node of the cluster each time, from every worker at once.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # registers what ends its pools before this module does
import contextlib
import dataclasses
import os
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING

from cassandra.cluster import Session

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from tfx_cassandra.components.driver.connection import CassandraConnection

SECONDS = 30.0  # that a session is kept after its last use

Secrets = tuple[object, ...]


@dataclasses.dataclass(eq=False, frozen=True)
class _Kept:
    session: Session
    secrets: Secrets
    timer: threading.Timer


_kept: dict[Hashable, _Kept] = {}
_lock = threading.Lock()  # guards the dictionary; never held while closing
_inherited: list[dict[Hashable, _Kept]] = []


def _reset_after_fork() -> None:
    global _kept, _lock
    # Kept, because the driver shuts down a session that nothing refers to. The timers' threads are the parent's.
    _inherited.append(_kept)
    _kept, _lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_reset_after_fork)


def secrets(connection: CassandraConnection) -> Secrets:
    """Returns what a session is opened with and the connection only names: the password, and how new its files are."""
    tls = connection.tls
    files = (connection.secure_connect_bundle, *((tls.ca_file, tls.cert_file, tls.key_file) if tls else ()))
    password = connection.password_env and os.environ.get(connection.password_env)
    return (password, *(_changed(path) for path in files if path is not None))


def _changed(path: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return os.stat(path).st_mtime_ns
    return None


def put(key: Hashable, session: Session, opened_with: Secrets) -> None:
    """Keeps a session that nobody uses any more, and closes it after SECONDS unless it is taken, or at exit.

    Args:
      key: Of the session; none is kept of it.
      session: An open session.
      opened_with: `secrets` when it was opened.
    """
    timer = threading.Timer(SECONDS, lambda: _expire(key, kept))
    timer.daemon = True
    kept = _Kept(session, opened_with, timer)
    with _lock:
        _kept[key] = kept
    timer.start()


def take(key: Hashable, opened_with: Secrets) -> Session | None:
    """Takes the session that is kept of a key: None if there is none, its secrets are others now, or it is broken.

    What it knows of the schema and the nodes is as new as a new session's.
    """
    with _lock:
        kept = _kept.pop(key, None)
    if kept is None:
        return None
    kept.timer.cancel()
    if kept.secrets == opened_with:
        with contextlib.suppress(*DRIVER_ERRORS):
            kept.session.cluster.refresh_nodes()
            kept.session.cluster.refresh_schema_metadata(max_schema_agreement_wait=0)
            return kept.session
    kept.session.cluster.shutdown()
    return None


def close() -> None:
    """Closes all that are kept."""
    with _lock:
        left = list(_kept.values())
        _kept.clear()
    for kept in left:
        kept.timer.cancel()
        kept.session.cluster.shutdown()


# Functions of `atexit` are called when the pools of concurrent.futures are closed, whose threads the driver needs to
# close a session; these are called before, the last one registered first.
threading._register_atexit(close)  # type: ignore[attr-defined]


def sessions() -> list[Session]:
    """Returns the sessions that are kept now."""
    with _lock:
        return [kept.session for kept in _kept.values()]


def _expire(key: Hashable, kept: _Kept) -> None:
    with _lock:
        if _kept.get(key) is not kept:
            return
        del _kept[key]
    kept.session.cluster.shutdown()
