"""The exceptions of the driver, and their messages in one line."""

from __future__ import annotations

from collections.abc import Mapping

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException, ProtocolError
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ErrorMessage

# The driver has no common base class for these.
DRIVER_ERRORS = (
    DriverException,
    ErrorMessage,
    NoHostAvailable,
    ConnectionException,
    ConnectionBusy,
    NoConnectionsAvailable,
    ProtocolError,
)


def one_line(error: Exception) -> str:
    """Returns the type and message of an error in one line; of NoHostAvailable, those of each host that was tried."""
    causes: list[Exception] = [error]
    if isinstance(error, NoHostAvailable) and error.errors:
        causes = list(error.errors.values() if isinstance(error.errors, Mapping) else error.errors)
    texts = sorted({f'{type(cause).__name__}: {cause}' for cause in causes})
    return ' '.join('; '.join(texts).split())
