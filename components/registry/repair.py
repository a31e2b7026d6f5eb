"""Finds what interrupted pushes left behind, and repairs what can be repaired without the files of the model.

    found                          repaired by
    temporary directory            removing it
    half-copied version            releasing its claim and removing it (where directories are not renamed); if it has a
                                   row, by pushing the same model again
    version without a row          writing the row with what is known; the next push of the model completes it
    claim without version or row   releasing it
    row without directory          pushing the same model again
    version with other files       moving it elsewhere and pushing the same model again
    directory that nobody claimed  nothing: it does not belong to the registry

A running push looks the same for a while. So what has changed within the age limit is reported but not repaired. The
age of a directory is that of its newest file; the age of a claim, or of a version without a row, is the time since the
last push of these files started or wrote a file. The limit must be longer than a push may go without writing a file,
and longer than a whole push if the file system keeps no modification times.
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
# A pusher's clock shows a later time than this. Smaller numbers, such as 1 and 2, were given by hand.
_MIN_VERSION = 1_000_000_000
_CHANGED = 'none: somebody has changed it; move it elsewhere and push the same model again'
AGE_LIMIT = datetime.timedelta(hours=24)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One difference from what a complete push leaves.

    Attributes:
      kind: One of the kinds listed in this module's docstring.
      what: The directory, or the version.
      since: When it last changed, as far as is known.
      remedy: What `mend` does, or what to do instead.
      mend: Repairs it; None if this module cannot, or must not yet.
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
    """Returns what interrupted pushes of one model left behind; changes nothing.

    Args:
      registry: The open registry.
      experiment_id: The model's experiment.
      model_id: The model.
      base_directory: The directory that the model is pushed to.
      age_limit: What has changed within this time has no `mend`, because a push may be working on it.

    Raises:
      RegistryError: Cassandra or the directory cannot be read.
    """
    try:
        findings = list(_Search(registry, experiment_id, model_id, base_directory).findings())
    except (*publish.FAILURES, UnicodeError) as error:
        rule = f'readable ({one_line(error)})'
        raise RegistryError(f'base_directory: got {base_directory!r}, rule: {rule}') from error
    limit = datetime.datetime.now(datetime.timezone.utc) - age_limit
    return [finding if _is_older(finding, limit) else _without_mend(finding) for finding in findings]


def mend(finding: Finding) -> None:
    """Carries out the remedy of a finding; does nothing for a finding without `mend`.

    Raises:
      RegistryError: It failed, or a push of the same model has started or ended meanwhile.
    """
    try:
        if finding.mend is not None and finding.mend() is False:
            raise RegistryError(
                f'{finding.kind}: got {finding.what!r}, rule: no push has started again, and it has no row'
            )
    except publish.FAILURES as error:
        rule = f'this process can {finding.remedy} ({one_line(error)})'
        raise RegistryError(f'{finding.kind}: got {finding.what!r}, rule: {rule}') from error


def _is_older(finding: Finding, limit: datetime.datetime) -> bool:
    return finding.since is not None and finding.since <= limit


def _without_mend(finding: Finding) -> Finding:
    if finding.mend is None:
        return finding
    return dataclasses.replace(finding, remedy='left: a push may be at work on it', mend=None)


class _Search:
    """Compares the directory, the claims and the rows of one model."""

    def __init__(self, registry: ModelRegistry, experiment_id: str, model_id: str, base_directory: str) -> None:
        self._registry, self._experiment, self._model, self._base = registry, experiment_id, model_id, base_directory
        # The directory is read first: a version that is completed meanwhile is then found complete in the tables.
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
                    # Its claim is kept, so a push may start while it is being removed.
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
            return Finding('version without a row', path, self._last_active(held), 'write its row', record)
        since = max(publish.modified(path) or self._last_active(held), self._last_active(held))
        abandon = functools.partial(self._abandon, held, path)
        return Finding('half-copied version', path, since, 'release its claim and remove it', abandon)

    def _abandoned(self, held: HeldClaim) -> Finding:
        what = f'version {held.claim.version}, digest {held.digest}'
        release = functools.partial(self._registry.release, self._experiment, self._model, held)
        return Finding('claim without version or row', what, self._last_active(held), 'release it', release)

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
        # A push that starts after the release gets another version, so it does not copy into this directory.
        if not self._registry.release(self._experiment, self._model, held):
            return False
        fileio.rmtree(path)
        return True

    def _was_abandoned(self, version: str, path: str) -> bool:
        """Returns whether the directory was left by a repair that was interrupted after it released the claim."""
        return _MIN_VERSION <= int(version) <= (self._last or 0) and publish.half_copied(path)

    def _last_active(self, held: HeldClaim) -> datetime.datetime:
        """Returns when a push of these files was last active."""
        times = [held.attempted_at or held.claim.created_at]
        for name in self._names:
            if (match := _TEMPORARY.fullmatch(name)) and match[1] == str(held.claim.version):
                times.append(publish.modified(os.path.join(self._base, name)) or times[0])
        return max(times)

    def _missing(self, row: ModelVersion) -> Finding:
        moves = self._registry.aliases(self._experiment)
        aliases = ', '.join(move.alias for move in moves if move.names(row.model_id, row.version))
        what = f'{row.model_uri}{f", alias {aliases}" if aliases else ""}'
        return Finding('row without directory', what, row.created_at, 'none: push the same model again')
