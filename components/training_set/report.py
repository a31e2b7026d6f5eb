"""Writes the files next to the examples: coverage.json, which proves what was read, the leakage audit, the schema."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format
from tfx import types
from tfx.dsl.io import fileio

from tfx_cassandra.components.backup.tables import digest_of
from tfx_cassandra.components.dataset.files import tfmd
from tfx_cassandra.components.dataset.join.audit import Audit, readable
from tfx_cassandra.components.scan import ledger
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.training_set.sources import LABELS, Sources

COVERAGE_FILE = 'coverage.json'
SCHEMA_FILE = 'schema.pbtxt'  # as TFX's SchemaGen names it
AUDIT_FILE, AUDIT_PAGE = 'audit.json', 'audit.md'


def write_coverage(
    coverages: Mapping[str, ledger.Coverage],
    overflows: Mapping[str, int],
    counts: Mapping[str, int],
    checksum: str,
    settings: TrainingSetOptions,
    sources: Sources,
    uri: str,
) -> None:
    """Writes coverage.json: the queries, what was read, and the number of examples in each split.

    The top level describes the table whose rows are the examples, `views` the joined tables. A view that was looked up
    by key has no coverage: each lookup is either answered or an error.
    """
    first = LABELS if settings.labels is not None else settings.views[0].name
    content = {'window': str(settings.window), **_read(first, coverages, sources, str(settings.window))}
    if settings.labels is not None:
        content['views'] = {view.name: _read(view.name, coverages, sources, '') for view in settings.views}
        fingerprints = [content['fingerprint'], *(view.get('fingerprint', '') for view in content['views'].values())]
        content['fingerprint'] = hashlib.sha256('\n'.join(fingerprints).encode()).hexdigest()
    if settings.source is not None:
        content |= _backup([coverages[name].backup for name in sorted(coverages)])
    content['examples'] = dict(sorted(counts.items()))
    content['examples_checksum'] = checksum
    content['beyond_float32'] = dict(sorted(overflows.items()))
    if settings.span is not None:
        content['spans'] = [settings.span.first, settings.span.last]
    if settings.as_of is not None:
        # The scan also reads rows that are written later and then leaves them out, so only the examples are the same.
        content['as_of'] = settings.as_of.isoformat()
        parts = (content['table'], settings.window, content['as_of'], sum(counts.values()), checksum)
        content['fingerprint'] = hashlib.sha256('\n'.join(map(str, parts)).encode()).hexdigest()
    content['reads'] = content.pop('reads')  # the longest part last
    _write(os.path.join(uri, COVERAGE_FILE), json.dumps(content, indent=2))


def version(fingerprint: str) -> int:
    """Returns TFX's version number for a fingerprint: its first 52 bits, which a double holds exactly."""
    return int(fingerprint[:13], 16)


def write_audit(
    audit: Audit,
    settings: TrainingSetOptions,
    reference: datetime.datetime,
    uri: str,
    overflows: Mapping[str, int],
) -> None:
    """Writes the audit as JSON and as Markdown."""
    report = {'labels_known_at': reference.isoformat(), **audit.report(settings.availability_cut_off, overflows)}
    _write(os.path.join(uri, AUDIT_FILE), json.dumps(report, indent=2))
    _write(os.path.join(uri, AUDIT_PAGE), readable(report))


def write_schema(settings: TrainingSetOptions, sources: Sources, uri: str) -> None:
    """Writes the schema of the examples, derived from the columns' CQL types."""
    cql = {name: column.cql for name, column in sources.columns.items()}
    required = [name for name, column in sources.columns.items() if column.required]
    schema = tfmd.schema_of(sources.kinds, cql, required, settings.sequences)
    _write(os.path.join(uri, SCHEMA_FILE), text_format.MessageToString(schema))


def check_audit(artifact: types.Artifact, settings: TrainingSetOptions) -> None:
    """Checks the audit against the limits, and records in the artifact whether the cut-off was on.

    Raises:
      DatasetError: A feature exceeds a limit.
    """
    if settings.labels is None:
        return
    with fileio.open(os.path.join(artifact.uri, AUDIT_FILE)) as file:
        report = json.load(file)
    artifact.set_string_custom_property('availability_cut_off', 'on' if report['availability_cut_off'] else 'off')
    if settings.limits is not None:
        settings.limits.check(report)


def _read(name: str, coverages: Mapping[str, ledger.Coverage], sources: Sources, window: str) -> dict[str, Any]:
    table = sources.reads[name]
    scan = table.scan
    if name not in coverages:
        return {'table': str(table.table), 'plan': 'lookup'}
    coverage, cql = coverages[name], scan.cql(scan.times)
    content = {'table': str(table.table), 'plan': 'scan', 'cql': cql}
    return content | {'fingerprint': coverage.fingerprint(cql, window), **coverage.as_json()}


def _backup(backups: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Returns which backup was read, and a digest of the files of all tables."""
    found = [backup for backup in backups if backup is not None]
    return {'backup_name': found[0]['name'], 'backup_digest': digest_of([backup['digest'] for backup in found])}


def _write(path: str, text: str) -> None:
    with fileio.open(path, 'w') as file:
        file.write(text.rstrip('\n') + '\n')
