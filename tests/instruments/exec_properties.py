"""Execution properties as an executor finds them: TFX stores protos as JSON, and leaves out what is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from tfx.utils import proto_utils


def stored(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: proto_utils.proto_to_json(value) if isinstance(value, Message) else value
        for name, value in properties.items()
        if value is not None
    }
