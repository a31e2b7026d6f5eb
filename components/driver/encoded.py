"""BATCH requests whose bodies are serialized already, which the driver sends as they are.

Everything else is the driver's: the choice of a replica, retries, time-outs, preparing anew on a restarted node.
"""

from __future__ import annotations

import struct
from typing import Any

from cassandra import ProtocolVersion
from cassandra.policies import FallthroughRetryPolicy
from cassandra.protocol import BatchMessage
from cassandra.query import BatchStatement

_HEADER = struct.Struct('>BBhBi')  # native_protocol_v5.spec, section 2: version, flags, stream, opcode, length
_COMPRESSED, _BETA = 0x01, 0x10


class _Body(bytes):
    """The body of a BATCH message, where the driver has its statements."""


class EncodedBatch(BatchStatement):
    """A BATCH request with a serialized body.

    Args:
      body: The body of the message, for the protocol version of the session.
      routing_key: The serialized partition key, by which the driver finds replicas.
      keyspace: The keyspace whose replication counts.
      consistency: The driver's number of the consistency level in the body, which errors and retries name.
      idempotent: Whether the driver may send it again, as it may not with counters.
    """

    def __init__(
        self, body: bytes, routing_key: bytes, keyspace: str, consistency: int, idempotent: bool = True
    ) -> None:
        super().__init__(consistency_level=consistency, retry_policy=None if idempotent else FallthroughRetryPolicy())
        self.is_idempotent = idempotent
        self.routing_key, self.keyspace = routing_key, keyspace
        self._statements_and_parameters = _Body(body)

    def __len__(self) -> int:
        return len(self._statements_and_parameters)

    def __str__(self) -> str:
        return f'<EncodedBatch of {len(self)} bytes>'


def ending(consistency: int, protocol_version: int) -> bytes:
    """Returns what follows the statements in the body of a BATCH: consistency level, and flags of which none is set."""
    flags = 4 if ProtocolVersion.uses_int_query_flags(protocol_version) else 1
    return consistency.to_bytes(2, 'big') + bytes(flags)


def encoded_message(message: Any, stream: int, version: int, compressor: Any, beta: bool) -> bytes | None:
    """Returns the frame of a message of an EncodedBatch; None for any other message."""
    if not isinstance(message, BatchMessage) or not isinstance(message.queries, _Body):
        return None
    body, flags = message.queries, _BETA if beta else 0
    if compressor is not None and not ProtocolVersion.has_checksumming_support(version):
        body, flags = compressor(body), flags | _COMPRESSED
    return _HEADER.pack(version, flags, stream, message.opcode, len(body)) + body
