"""Watches this package in every Python that finds this folder first: notes what a process does, and ends it on request.

PROBE_EVENTS  folder of the notes: one file a process, one JSON object a line
PROBE_KILL    'what:who': in the middle of the first `what` (read, join, write) of any process, when a part of its
              output is there, kill it with SIGKILL: `who` is worker, or executor for the JVM that started it as well.
PROBE_SLOW    'what:seconds': the first `what` of any process takes so long more. It happens once a run.

It changes no result; nothing of it is in the package.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_FOLDER = os.environ.get('PROBE_EVENTS')


def note(event: str, **more: Any) -> None:
    line = json.dumps({'event': event, 'pid': os.getpid(), 'time': time.time(), **more})
    with open(os.path.join(_FOLDER, f'{os.getpid()}.jsonl'), 'a') as file:
        file.write(line + '\n')


def _first(name: str) -> bool:
    """Says whether this is the first of all processes of the run to ask."""
    try:
        os.close(os.open(os.path.join(_FOLDER, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _trouble(event: str) -> None:
    what, _, seconds = os.environ.get('PROBE_SLOW', '').partition(':')
    if what == event and _first('slow'):
        note('slow', of=event)
        time.sleep(float(seconds))
        note('woken', of=event)
    what, _, who = os.environ.get('PROBE_KILL', '').partition(':')
    if what == event and _first('killed'):
        note('killed', of=event)
        if who == 'executor':
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _key(value: object) -> str:
    return hashlib.blake2b(value if isinstance(value, bytes) else repr(value).encode(), digest_size=8).hexdigest()


def _watched(process: Callable[..., Any], event: str, key: Callable[[Any], Any], each: bool) -> Callable[..., Any]:
    """Notes the elements of a DoFn; `each`: trouble comes between its outputs, in the middle of an element."""

    @functools.wraps(process)
    def watched(self: Any, element: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        note(event, key=_key(key(element)))
        if not each:
            _trouble(event)
        for output in process(self, element, *args, **kwargs) or ():
            yield output
            if each:
                _trouble(event)

    return watched


def _watch_connection(module: ModuleType) -> None:
    """Notes each session as it is opened."""
    opening = module._open

    def opened(connection: Any) -> Any:
        note('session', connection=str(connection))
        return opening(connection)

    module._open = opened


def _watch_writer(module: ModuleType) -> None:
    writing = module.TableWriter.write

    def written(self: Any, rows: Any) -> Any:
        note('write', key=_key(pickle.dumps(rows)), rows=len(rows))
        half = len(rows) // 2
        failures = writing(self, rows[:half])
        _trouble('write')  # in the middle: half of the rows are there
        return failures + [failure._replace(row=failure.row + half) for failure in writing(self, rows[half:])]

    module.TableWriter.write = written


def _watch(name: str, event: str, key: Callable[[Any], Any], each: bool = False) -> Callable[[ModuleType], None]:
    def watch(module: ModuleType) -> None:
        kind = getattr(module, name)
        kind.process = _watched(kind.process, event, key, each)

    return watch


def _group(element: tuple[Any, int, Any]) -> list[str]:
    scan, _, splits = element
    return [str(scan.table), *(str(split.area) for split in splits)]


def _watch_bundles(module: ModuleType) -> None:
    processing = module.BundleProcessor.process_bundle

    def processed(self: Any, *given: Any) -> Any:
        note('bundle')
        return processing(self, *given)

    module.BundleProcessor.process_bundle = processed


_PACKAGE = 'tfx_cassandra.components.'
_WATCHES: dict[str, list[Callable[[ModuleType], None]]] = {
    'driver.connection': [_watch_connection],
    'scan.read': [_watch('_ReadSplits', 'read', _group, each=True)],
    'training_set.read': [_watch('_JoinShard', 'join', lambda element: element[0], each=True)],
    'experiment.evaluate': [_watch('_JoinOutcomes', 'reduce', lambda element: element[0])],
    'lookup.retrieve': [_watch('Retrieve', 'retrieve', lambda examples: examples[0])],
    'dataset.files.tfrecord': [_watch('_Write', 'file', lambda element: element[0])],
    'write.writer': [_watch_writer],
    'apache_beam.runners.worker.bundle_processor': [_watch_bundles],
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the watched modules as they would be found, and watches them once they are loaded."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        watches = _WATCHES.get(fullname.removeprefix(_PACKAGE))
        if not watches:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def loaded(module: ModuleType) -> None:
                load(module)
                for watch in watches:
                    watch(module)

            spec.loader.exec_module = loaded  # type: ignore[method-assign]
        return spec


if _FOLDER:
    sys.meta_path.insert(0, _Finder())
