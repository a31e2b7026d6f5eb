"""Checks of releases: those of Cassandra and of cassandra-driver that are known to be bad, each with its source."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from tfx_cassandra.components.doctor.facts import Facts
from tfx_cassandra.components.doctor.finding import Finding

_Release = tuple[int, ...]
_ADVISORIES = 'https://security.apache.org/projects/cassandra/'
_NVD = 'https://nvd.nist.gov/vuln/detail/'
_ISSUES = 'https://issues.apache.org/jira/browse/'
_DRIVER = 'https://github.com/apache/cassandra-python-driver/'


@dataclasses.dataclass(frozen=True)
class Bad:
    """Releases with a known defect.

    Attributes:
      first: The first release with it.
      fixed: The first release of the line without it; None if the line is no longer maintained.
      severity: Severity of the finding.
      reason: What goes wrong.
      source: Where it is described.
      python: The first Python with which it occurs; () for every one.
    """

    first: _Release
    fixed: _Release | None
    severity: str
    reason: str
    source: str
    python: tuple[int, ...] = ()


def _lines(fixes: dict[_Release, _Release], severity: str, reason: str, source: str) -> tuple[Bad, ...]:
    return tuple(Bad(first, fixed, severity, reason, source) for first, fixed in fixes.items())


_ESCALATION = 'a user with MODIFY on all keyspaces can become superuser'
SERVER = (
    Bad((0,), (4,), 'error', 'no longer maintained, and not supported by this package', 'docs/schema.md'),
    Bad((4, 0), (4, 1), 'warning', 'not supported by this package, which needs 4.1', 'docs/schema.md'),
    *_lines(
        {(4, 1, 0): (4, 1, 8), (5, 0, 0): (5, 0, 3)}, 'warning', _ESCALATION, f'{_ADVISORIES}#CVE-2025-23015'
    ),
    *_lines(
        {(4, 1, 0): (4, 1, 8), (5, 0, 0): (5, 0, 3)}, 'warning',
        'users can widen their own access to data centers and networks', f'{_ADVISORIES}#CVE-2025-24860',
    ),
    *_lines(
        {(4, 1, 0): (4, 1, 11), (5, 0, 0): (5, 0, 7)}, 'info',
        'a user who changes a password again and again slows the whole node', f'{_NVD}CVE-2026-32588',
    ),
    Bad(
        (5, 0, 0), (5, 0, 7), 'info', 'with MutualTlsAuthenticator, a user with CREATE can take any role',
        f'{_NVD}CVE-2026-27314',
    ),
    Bad(
        (5, 0, 0), (5, 0, 4), 'error', 'a write of several collections of a row can lose the deletion of one of them',
        f'{_ISSUES}CASSANDRA-20449',
    ),
    Bad(
        (5, 0, 0), (5, 0, 4), 'warning', 'queries of two storage-attached indexes can return wrong rows',
        f'{_ISSUES}CASSANDRA-20189',
    ),
)  # fmt: skip
DRIVER = (
    Bad(
        (0,), (3, 26), 'error', 'reuses stream ids of requests in flight: a response can be that of another request',
        f'{_DRIVER}pull/1114',
    ),
    Bad((3, 26), (3, 29), 'error', 'not supported by this package, which needs 3.29', 'setup.py'),
    Bad((3, 29), (3, 29, 3), 'warning', 'not made for Python 3.13', f'{_DRIVER}pull/1242', (3, 13)),
)  # fmt: skip


def server_releases(facts: Facts) -> Iterator[Finding]:
    """Yields what is known to be wrong with the nodes' releases, and that there are several."""
    releases: dict[str, list[str]] = {}
    for node in facts.nodes:
        if node.release:
            releases.setdefault(node.release, []).append(node.name)
    if len(releases) > 1:
        text = '; '.join(f'{release} on {", ".join(names)}' for release, names in sorted(releases.items()))
        yield Finding(
            'server-version', 'warning', 'the cluster',
            f'{len(releases)} releases at once: {text}; change no schema and stream no data meanwhile',
            ('finish the upgrade, node by node, then nodetool upgradesstables',),
        )  # fmt: skip
    for release, names in sorted(releases.items()):
        yield from _known('server-version', f'Cassandra {release}', ', '.join(names), release, SERVER, facts.python)


def driver_release(facts: Facts) -> Iterator[Finding]:
    """Yields what is known to be wrong with the client's driver."""
    if facts.driver:
        name = f'cassandra-driver {facts.driver}'
        yield from _known('driver-version', name, 'this client', facts.driver, DRIVER, facts.python)


def _known(
    check: str, name: str, where: str, release: str, known: tuple[Bad, ...], python: tuple[int, ...]
) -> Iterator[Finding]:
    numbers = numbers_of(release)
    for bad in known:
        if bad.first <= numbers and (bad.fixed is None or numbers < bad.fixed) and python >= bad.python:
            fixed = '.'.join(map(str, bad.fixed or ()))
            yield Finding(
                check, bad.severity, where, f'{name}: {bad.reason} ({bad.source})', (f'upgrade to {fixed} or later',)
            )


def numbers_of(release: str) -> _Release:
    """Returns the numbers of a release: (5, 0, 8) of '5.0.8-SNAPSHOT'; '5.0-beta1' comes before 5.0.0."""
    match = re.match(r'(\d+)\.?(\d+)?\.?(\d+)?', release)
    return tuple(int(number) for number in match.groups() if number is not None) if match else ()
