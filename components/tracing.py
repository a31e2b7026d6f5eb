"""OpenTelemetry spans, in the tracer `tfx_cassandra`; nothing happens without the extra `otel` (opentelemetry-api).

A program that wants the spans sets up a tracer provider of OpenTelemetry's SDK; without one the API does nothing, too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

NAME = 'tfx_cassandra'
_Attribute = str | int | float | bool


class Span:
    """A span that has begun; `end` it, also where it failed."""

    def __init__(self, api: Any, name: str, parent: Span | None, attributes: dict[str, _Attribute]) -> None:
        self._api, self._span = api, None
        if api is not None:
            tracer = api.get_tracer(NAME)
            # Not the current span: a generator that made it so would pass it on to whoever consumes it.
            context = None if parent is None else api.set_span_in_context(parent._span)
            self._span = tracer.start_span(
                f'{NAME}.{name}', context, attributes={'db.system': 'cassandra', **attributes}
            )

    def set(self, **attributes: _Attribute) -> None:
        """Sets attributes, whose names get the prefix `tfx_cassandra.`."""
        if self._span is not None:
            self._span.set_attributes({f'{NAME}.{name}': value for name, value in attributes.items()})

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Makes the span the current one for a block; spans that begin in it belong to it."""
        if self._span is None:
            return contextlib.nullcontext()
        quiet = {'record_exception': False, 'set_status_on_exception': False}
        context: contextlib.AbstractContextManager[Any] = self._api.use_span(self._span, **quiet)
        return context

    def end(self, error: BaseException | None = None) -> None:
        """Ends the span, as failed if there is an error."""
        if self._span is None:
            return
        if error is not None and not isinstance(error, GeneratorExit):
            self._span.record_exception(error)
            self._span.set_status(self._api.StatusCode.ERROR, type(error).__name__)
        self._span.end()


def begin(name: str, table: str | None = None, parent: Span | None = None) -> Span:
    """Begins a span that is not the current one.

    Args:
      name: What is done; the prefix `tfx_cassandra.` is put before it.
      table: The table, or None.
      parent: The span it belongs to; the current span if None.
    """
    return Span(_api(), name, parent, {} if table is None else {'db.collection.name': table})


@contextlib.contextmanager
def span(name: str, table: str | None = None) -> Iterator[Span]:
    """Makes a span of a block, the current one within it, so that the block must not yield to a caller.

    An error of the block is recorded, and raised again. See `begin` for the arguments.
    """
    running = begin(name, table)
    try:
        with running.current():
            yield running
    except BaseException as error:
        running.end(error)
        raise
    running.end()


@functools.cache
def _api() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace
