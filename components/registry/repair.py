"""Finds what pushes that died have left of a model, and mends what can be mended without its files.

    found                          mended by
    temporary directory            removing it
    half-copied version            releasing its claim and removing it (where directories are not renamed); nothing
                                   here if it has a row: push the same model again
    version without a row          writing the row with what is known; the next push of the model completes it
    claim without version or row   releasing it
    row without directory          nothing here: push the same model again
    version with other files       nothing here: move it elsewhere and push the same model again
    directory that nobody claimed  nothing here: it is not the registry's

A pusher that is at work leaves the same things for a while. So what has changed within the age limit is reported, and
left: a directory by the newest time of a file in it, a claim and a version without a row by the moment the last push of
these files began or the newest time of a file in a copy of them. The limit must be longer than any push goes without
writing a file, and longer than any push where the file system keeps no times.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import re
from collections.abc import Callable, Iterator

from tfx.dsl.io import fileio

from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry import files, publish
from tfx_cassandra.components.registry.claims import HeldClaim, moment
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.components.registry.versions import REPAIRED

_TEMPORARY = re.compile(rf'{re.escape(publish.TEMPORARY)}(\d+)-\w+')
# No clock of a pusher says less. Numbers that people count by, 1 and 2, are not of a push.
_FIRST = 1_000_000_000
_CHANGED = 'none: somebody has changed it; move it elsewhere and push the same model again'
AGE_LIMIT = datetime.timedelta(hours=24)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is not as a complete push leaves it.

    Attributes:
      kind: Which of the kinds this module lists.
      what: The directory, or the version.
      since: When it last changed, as far as is known.
      remedy: What mending does, or what else helps.
      mend: Mends it; None where that is not done here.
    """

    kind: str
    what: str
    since: datetime.datetime | None
    remedy: str
    mend: Callable[[], object] | None = None


def find(
    registry: ModelRegistry,
    experiment_id: str,
    model_id: str,
    base_directory: str,
    *,
    age_limit: datetime.timedelta = AGE_LIMIT,
) -> list[Finding]:
    """Returns what dead pushes of one model left; nothing is changed.

    Args:
      registry: The open registry.
      experiment_id: The model's experiment.
      model_id: The model.
      base_directory: The directory that the model is pushed to.
      age_limit: What has changed within this time has no `mend`, for a pusher may be at work on it.

    Raises:
      RegistryError: Cassandra or the directory cannot be read.
    """
    try:
        found = list(_Search(registry, experiment_id, model_id, base_directory).findings())
    except (*publish.FAILURES, UnicodeError) as error:
        rule = f'readable ({one_line(error)})'
        raise RegistryError(f'base_directory: got {base_directory!r}, rule: {rule}') from error
    limit = datetime.datetime.now(datetime.timezone.utc) - age_limit
    return [each if each.since is not None and each.since <= limit else _left(each) for each in found]


def mend(finding: Finding) -> None:
    """Does what a finding's remedy says; one without `mend` is left.

    Raises:
      RegistryError: It could not be done, or a push of the same model has begun or ended meanwhile.
    """
    try:
        if finding.mend is not None and finding.mend() is False:
            raise RegistryError(
                f'{finding.kind}: got {finding.what!r}, rule: no push has begun again and no row is there'
            )
    except publish.FAILURES as error:
        rule = f'this process can {finding.remedy} ({one_line(error)})'
        raise RegistryError(f'{finding.kind}: got {finding.what!r}, rule: {rule}') from error


def _left(finding: Finding) -> Finding:
    if finding.mend is None:
        return finding
    return dataclasses.replace(finding, remedy='left: a push may be at work on it', mend=None)


class _Search:
    """What is in the directory, in the claims and in the rows of one model, laid side by side."""

    def __init__(self, registry: ModelRegistry, experiment_id: str, model_id: str, base_directory: str) -> None:
        self._registry, self._experiment, self._model, self._base = registry, experiment_id, model_id, base_directory
        # The directory first: what a pusher completes meanwhile is then found complete in the tables.
        self._names = files.names(base_directory) if fileio.exists(base_directory) else []
        self._claims = {str(held.claim.version): held for held in registry.claims(experiment_id, model_id)}
        self._last = registry.last_version(experiment_id, model_id)
        self._rows = {row.version: row for row in registry.list(experiment_id) if row.model_id == model_id}

    def findings(self) -> Iterator[Finding]:
        for name in self._names:
            path = os.path.join(self._base, name)
            if _TEMPORARY.fullmatch(name):
                remove = functools.partial(fileio.rmtree, path)
                yield Finding('temporary directory', path, publish.modified(path), 'remove it', remove)
            elif publish.is_version(name):
                row = self._rows.get(name)
                if row is None:
                    yield self._unrecorded(name, path)
                elif row.digest is not None and publish.half_copied(path):
                    since = publish.modified(path) or row.created_at
                    # Its claim stays, so no one can say that a push does not begin while it is removed.
                    yield Finding('half-copied version', path, since, 'none: push the same model again')
        for version, held in self._claims.items():
            if version not in self._rows and version not in self._names:
                yield self._abandoned(held)
        for row in self._rows.values():
            if row.digest is not None and row.model_uri is not None and not fileio.isdir(row.model_uri):
                yield self._missing(row)

    def _unrecorded(self, version: str, path: str) -> Finding:
        held = self._claims.get(version)
        if held is None and self._was_abandoned(version, path):
            since = publish.modified(path) or moment(int(version))
            return Finding('half-copied version', path, since, 'remove it', functools.partial(fileio.rmtree, path))
        if held is None:
            remedy = 'none: not of this registry'
            if self._last is not None and int(version) > self._last:
                remedy += ', but a model server prefers its higher number'
            return Finding('directory that nobody claimed', path, publish.modified(path), remedy)
        try:
            complete = publish.holds(path, held.digest)
        except RegistryError:
            return Finding('version with other files', path, publish.modified(path), _CHANGED)
        if complete:
            record = functools.partial(self._record, held, path)
            return Finding('version without a row', path, self._begun(held), 'write its row', record)
        since = max(publish.modified(path) or self._begun(held), self._begun(held))
        abandon = functools.partial(self._abandon, held, path)
        return Finding('half-copied version', path, since, 'release its claim and remove it', abandon)

    def _abandoned(self, held: HeldClaim) -> Finding:
        what = f'version {held.claim.version}, digest {held.digest}'
        release = functools.partial(self._registry.release, self._experiment, self._model, held)
        return Finding('claim without version or row', what, self._begun(held), 'release it', release)

    def _record(self, held: HeldClaim, path: str) -> None:
        self._registry.record(
            ModelVersion(
                experiment_id=self._experiment,
                model_id=self._model,
                version=str(held.claim.version),
                created_at=held.claim.created_at,
                digest=held.digest,
                model_uri=path,
                pipeline_run=REPAIRED,
            )
        )

    def _abandon(self, held: HeldClaim, path: str) -> bool:
        # A push that begins once the claim is released gets another version, so it does not copy into this directory.
        if not self._registry.release(self._experiment, self._model, held):
            return False
        fileio.rmtree(path)
        return True

    def _was_abandoned(self, version: str, path: str) -> bool:
        """Returns whether a repair that died after it had released the claim left the directory."""
        return _FIRST <= int(version) <= (self._last or 0) and publish.half_copied(path)

    def _begun(self, held: HeldClaim) -> datetime.datetime:
        """Returns when a push of these files last showed a sign of life."""
        signs = [held.attempted_at or held.claim.created_at]
        for name in self._names:
            if (match := _TEMPORARY.fullmatch(name)) and match[1] == str(held.claim.version):
                signs.append(publish.modified(os.path.join(self._base, name)) or signs[0])
        return max(signs)

    def _missing(self, row: ModelVersion) -> Finding:
        moves = self._registry.aliases(self._experiment)
        names = ', '.join(move.alias for move in moves if move.names(row.model_id, row.version))
        what = f'{row.model_uri}{f", which {names} names" if names else ""}'
        return Finding('row without directory', what, row.created_at, 'none: push the same model again')
