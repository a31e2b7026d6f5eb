"""The exceptions of the driver, and their messages in one line."""

from __future__ import annotations

from collections.abc import Mapping

from cassandra import DriverException, OperationTimedOut, Unavailable, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException, ProtocolError
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import (
    ErrorMessage,
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    UnavailableErrorMessage,
    WriteTimeoutErrorMessage,
)

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


# What another attempt, or another node, may answer otherwise: the request itself is not at fault.
_OF_THE_CLUSTER = (
    Unavailable,
    UnavailableErrorMessage,
    WriteTimeout,
    WriteTimeoutErrorMessage,
    OperationTimedOut,
    ConnectionException,
    ConnectionBusy,
    NoConnectionsAvailable,
    OverloadedErrorMessage,
    IsBootstrappingErrorMessage,
    OSError,
)


def causes_of(error: Exception) -> list[Exception]:
    """Returns the errors of all hosts that were tried, of NoHostAvailable; else the error itself."""
    if isinstance(error, NoHostAvailable) and error.errors:
        return list(error.errors.values() if isinstance(error.errors, Mapping) else error.errors)
    return [error]


def is_of_the_cluster(error: Exception) -> bool:
    """Returns whether a write failed because nodes are down, slow or overloaded, whatever it contains."""
    causes = causes_of(error)
    return all(isinstance(cause, (*_OF_THE_CLUSTER, NoHostAvailable)) for cause in causes)


def one_line(error: Exception) -> str:
    """Returns the type and message of an error in one line; of NoHostAvailable, those of each host that was tried."""
    texts = sorted({f'{type(cause).__name__}: {cause}' for cause in causes_of(error)})
    return ' '.join('; '.join(texts).split())
