"""What runs leave in a folder: of each run its summary and a folder for each execution; of all runs a cache.

RUNS/<run>/job.json           the compiled file and the parameters, by which a run is continued
RUNS/<run>/summary.json       state of the run and of each task, rewritten as they change
RUNS/<run>/<task>_<run>-<n>/  attempt n of a task: executor_input.json, executor_output.json, log.txt
RUNS/cache/<fingerprint>.json the outputs of an execution, for later runs
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from tfx_cassandra.components.errors import invalid

Message = Mapping[str, Any]


class Runs:
    """The folder of all runs."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = pathlib.Path(folder).resolve()

    def new(self, job: str) -> Run:
        """Makes the folder of a new run."""
        now = datetime.datetime.now(datetime.timezone.utc)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f'{job}-{now:%Y%m%dT%H%M%S}'
        for number in range(1000):
            folder = self.folder / (f'{name}-{number}' if number else name)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return Run(folder)
        raise invalid('runs', str(self.folder), 'a folder in which a run can be made')

    def existing(self, name: str) -> Run:
        """Returns a run by its name.

        Raises:
          ValueError: There is none.
        """
        folder = self.folder / name
        if not (folder / 'job.json').is_file():
            known = ', '.join(sorted(path.parent.name for path in self.folder.glob('*/job.json'))) or 'there is none'
            raise invalid('resume', name, f'a run of {self.folder}: {known}')
        return Run(folder)

    def artifacts(self, run: Run) -> Iterator[Message]:
        """Yields the artifacts that tasks of other runs have made, the newest first."""
        paths = self.folder.glob('*/summary.json')
        summaries = [read_json(path) for path in paths if path.parent != run.folder]
        tasks = [
            task
            for summary in summaries
            for task in summary.get('tasks', {}).values()
            if task['state'] == 'SUCCEEDED' and task.get('ended')
        ]
        for task in sorted(tasks, key=lambda task: task['ended'], reverse=True):
            for artifacts in task['outputs']['artifacts'].values():
                yield from artifacts

    def cached(self, fingerprint: str) -> Message | None:
        """Returns the outputs of an earlier execution whose files are all there; None where there is none."""
        path = self._cache(fingerprint)
        if not path.is_file():
            return None
        outputs = read_json(path)
        uris = [artifact['uri'] for artifacts in outputs['artifacts'].values() for artifact in artifacts]
        # Only a local file can be looked for without a client of its store; a remote one is trusted, as on Vertex.
        return outputs if all('://' in uri or os.path.exists(uri) for uri in uris) else None

    def cache(self, fingerprint: str, outputs: Message) -> None:
        """Keeps the outputs of an execution for later runs."""
        write_json(self._cache(fingerprint), outputs)

    def _cache(self, fingerprint: str) -> pathlib.Path:
        return self.folder / 'cache' / f'{fingerprint}.json'


class Run:
    """The folder of one run."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    def execution(self, task: str) -> pathlib.Path:
        """Makes the folder of a task's next attempt. Its name is unique over runs: TFX names executions by it."""
        safe = task.replace('/', '.')
        number = 1
        while True:
            folder = self.folder / f'{safe}_{self.name}-{number}'
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            return folder

    def summary(self) -> dict[str, Any]:
        """Returns what is recorded of the run; empty before its first task."""
        path = self.folder / 'summary.json'
        return read_json(path) if path.is_file() else {}


def fingerprint(content: Any) -> str:
    """Returns the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON object of a file."""
    return json.loads(path.read_text(encoding='utf-8'))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a file as a whole: a reader finds the old content or the new, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    with os.fdopen(descriptor, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=1, sort_keys=True)
    os.replace(temporary, path)
