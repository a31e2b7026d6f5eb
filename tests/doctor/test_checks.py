"""Each check, with facts that trip it and facts that do not; no cluster needed."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from doctor_facts import MONTH, NOW, SETTINGS, TWCS, healthy, node, reading, table, with_nodes, with_table

from tfx_cassandra.components import doctor
from tfx_cassandra.components.doctor import cluster, layouts, sizes, versions
from tfx_cassandra.components.doctor.facts import Clock, Facts, Histogram, Keyspace, Partition
from tfx_cassandra.components.doctor.finding import Finding, duration, megabytes


def only(findings: object) -> Finding:
    (finding,) = findings  # type: ignore[misc]
    return finding


def test_nothing_is_found_on_a_healthy_cluster() -> None:
    assert doctor.examine(healthy()) == []


def test_nothing_is_found_where_nothing_could_be_read() -> None:
    bare = [
        dataclasses.replace(each, release=None, schema_version=None, clock=None, settings={})
        for each in healthy().nodes
    ]
    unread = dataclasses.replace(table(), created_at=None, repaired_at=None, repairs_known=False)
    assert doctor.examine(healthy(nodes=tuple(bare), readings=(), tables=(unread,), driver='')) == []


def test_findings_are_sorted_by_severity() -> None:
    facts = with_nodes(node(1), node(2), node(3, down='gone'), tables=(table(default_ttl=0),))
    assert [finding.severity for finding in doctor.examine(facts)] == ['error', 'info']


# Sizes


@pytest.mark.parametrize(
    ('largest', 'mean', 'severity', 'seen'),
    [
        (100_000_000, 0, None, ''),
        (100_000_001, 0, 'warning', 'the largest partition has 100.0 MB on 127.0.0.1:9042, limit 100.0 MB'),
        (1_200_000_000, 0, 'error', 'the largest partition has 1,200.0 MB on 127.0.0.1:9042, limit 100.0 MB'),
        (None, 250_000_000, 'warning', 'the mean partition of a range of tokens has 250.0 MB on 127.0.0.1:9042, limit'),
        (None, None, None, ''),
    ],
)
def test_partition_size(largest: int | None, mean: int | None, severity: str | None, seen: str) -> None:
    facts = healthy(readings=(reading(max_partition=largest, mean_partition=mean),))
    found = list(sizes.partition_size(facts))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if found:
        assert found[0].seen.startswith(seen)
        assert found[0].changes[:2] == ('nodetool toppartitions shop events 10000', 'nodetool tablestats shop.events')


def test_the_largest_partition_of_all_nodes_is_named_and_the_limit_is_the_callers() -> None:
    facts = healthy(readings=(reading(), reading(node='127.0.0.2:9042', max_partition=60_000_000)))
    assert list(sizes.partition_size(facts)) == []
    assert '60.0 MB on 127.0.0.2:9042' in only(sizes.partition_size(facts, limit=55_000_000)).seen


def test_a_partition_of_the_sample_is_named() -> None:
    wide = Partition('events', "k='a'", 200_000, False, 600.0)
    small, other = Partition('events', "k='b'", 1000, True, 600.0), Partition('other', "k='c'", 10**6, True, 10**4)
    found = only(sizes.partition_size(healthy(partitions=(wide, small, other))))
    assert found.severity == 'warning'
    sample = "partition k='a' has about 120.0 MB: at least 200,000 rows of 600 bytes"
    assert found.seen == f'{sample}, limit 100.0 MB'
    larger = healthy(partitions=(wide,), readings=(reading(max_partition=500_000_000),))
    expected = f'the largest partition has 500.0 MB on 127.0.0.1:9042; {sample}, limit 100.0 MB'
    assert only(sizes.partition_size(larger)).seen == expected
    assert list(sizes.partition_size(healthy(partitions=(small,)))) == []


@pytest.mark.parametrize(('share', 'severity'), [(None, None), (0.0, None), (0.2, None), (0.35, 'warning')])
def test_droppable_tombstones(share: float | None, severity: str | None) -> None:
    found = list(sizes.droppable(healthy(readings=(reading(droppable=share), reading(node='b:9042', droppable=0.1)))))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if found:
        assert found[0].seen.startswith('35% of the cells on 127.0.0.1:9042 are tombstones')
        assert "'unchecked_tombstone_compaction': 'true'" in found[0].changes[0]


@pytest.mark.parametrize(
    ('tombstones', 'rows', 'severity'),
    [
        (Histogram(10, 0, 99, 999), Histogram(10, 1, 1, 1), None),
        (Histogram(10, 0, 100, 999), Histogram(10, 1, 10, 10), 'warning'),  # ratio 10
        (Histogram(10, 0, 100, 999), Histogram(10, 1, 11, 11), None),
        (Histogram(10, 0, 100, 999), None, 'warning'),  # no row at all
        (Histogram(10, 0, 0, 1000), Histogram(10, 1, 1, 1), 'warning'),
        (Histogram(10, 0, 0, 100_000), Histogram(10, 1, 1, 1), 'error'),
        (Histogram(0, 0, 5000, 5000), Histogram(0, 0, 0, 0), None),  # no reads
        (None, None, None),
    ],
)
def test_tombstones(tombstones: Histogram | None, rows: Histogram | None, severity: str | None) -> None:
    found = list(sizes.tombstones(healthy(readings=(reading(tombstones=tombstones, rows=rows),))))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_the_servers_thresholds_of_tombstones_count() -> None:
    settings = {**SETTINGS, 'tombstone_warn_threshold': '5000', 'tombstone_failure_threshold': '6000'}
    for most, severity in ((4999, []), (5000, ['warning']), (6000, ['error'])):
        facts = with_nodes(
            node(1, settings=settings), readings=(reading(tombstones=Histogram(9, 0, 0, most)),),
            keyspace=Keyspace('shop', 'NetworkTopologyStrategy', {'dc1': 1}),
        )  # fmt: skip
        assert [finding.severity for finding in sizes.tombstones(facts)] == severity
    assert 'up to 6,000 tombstones, p99 0 for 50 rows' in only(sizes.tombstones(facts)).seen


# Layouts


@pytest.mark.parametrize(
    ('size', 'unit', 'ttl', 'severity', 'seen'),
    [
        ('1', 'DAYS', MONTH, None, ''),
        ('1', 'HOURS', 100 * 3600, None, ''),
        ('1', 'HOURS', 101 * 3600, 'info', 'a TTL of 4.208 days in windows of 1 hour: 101 windows, about 30 are good'),
        ('1', 'HOURS', MONTH, 'info', 'a TTL of 30 days in windows of 1 hour: 720 windows'),
        ('1', 'MINUTES', MONTH, 'warning', 'a TTL of 30 days in windows of 1 minute: 43,200 windows'),
        ('1', 'DAYS', 0, 'info', 'windows of 1 day and no default_time_to_live: 365 windows a year'),
        ('1', 'MINUTES', 0, 'warning', 'windows of 1 minute and no default_time_to_live: 525,600 windows a year'),
    ],
)
def test_windows(size: str, unit: str, ttl: int, severity: str | None, seen: str) -> None:
    compaction = {**TWCS, 'compaction_window_size': size, 'compaction_window_unit': unit}
    found = list(layouts.windows(with_table(compaction=compaction, default_ttl=ttl)))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if found:
        assert found[0].seen.startswith(seen)


@pytest.mark.parametrize('ttl', [60, 3600, 5 * 3600, 86400, 7 * 86400, MONTH, 365 * 86400, 630_720_000])
def test_the_windows_that_are_proposed_are_found_to_be_good(ttl: int) -> None:
    compaction = {**TWCS, 'compaction_window_size': '1', 'compaction_window_unit': 'MINUTES'}
    for finding in layouts.windows(with_table(compaction=compaction, default_ttl=ttl)):
        proposed = eval(finding.changes[0].partition('compaction = ')[2])
        assert list(layouts.windows(with_table(compaction=proposed, default_ttl=ttl))) == []


def test_other_compactions_have_no_windows() -> None:
    assert list(layouts.windows(with_table(compaction={'class': 'UnifiedCompactionStrategy'}, default_ttl=0))) == []


@pytest.mark.parametrize(
    ('grace', 'ttl', 'copies', 'severity'),
    [
        (864000, 0, 3, None),
        (0, 0, 3, 'error'),
        (10_799, 0, 3, 'warning'),
        (10_800, 0, 3, None),
        (0, 0, 1, None),  # nothing to repair, and no hints
        (864000, MONTH, 3, None),
        (864000, 86400, 3, 'info'),
        (10_800, 3600, 3, None),  # as short as hints allow
    ],
)
def test_gc_grace(grace: int, ttl: int, copies: int, severity: str | None) -> None:
    keyspace = Keyspace('shop', 'NetworkTopologyStrategy', {'dc1': copies})
    facts = healthy(keyspace=keyspace, tables=(table(gc_grace=grace, default_ttl=ttl),))
    assert [finding.severity for finding in layouts.gc_grace(facts)] == ([severity] if severity else [])


@pytest.mark.parametrize(('window', 'severities'), [('1h', []), ('7200000ms', ['warning']), ('3h', ['warning'])])
def test_gc_grace_is_compared_with_the_servers_hint_window(window: str, severities: list[str]) -> None:
    facts = with_nodes(node(1, settings={'max_hint_window': window}), tables=(table(gc_grace=3600),))
    assert [finding.severity for finding in layouts.gc_grace(facts)] == severities


@pytest.mark.parametrize(
    ('created', 'repaired', 'known', 'copies', 'seen'),
    [
        (300, 3, True, 3, None),
        (300, 11, True, 3, 'the last repair was 11 days ago, and gc_grace_seconds is 10 days'),
        (300, None, True, 3, 'the last repair is not on record, 300 days after creation'),
        (9, None, True, 3, None),  # younger than gc_grace_seconds
        (300, None, False, 3, None),
        (None, None, True, 3, None),
        (300, None, True, 1, None),
    ],
)
def test_repair(created: int | None, repaired: int | None, known: bool, copies: int, seen: str | None) -> None:
    ago = {name: None if days is None else NOW - datetime.timedelta(days=days) for name, days in
           (('created_at', created), ('repaired_at', repaired))}  # fmt: skip
    keyspace = Keyspace('shop', 'NetworkTopologyStrategy', {'dc1': copies})
    found = list(layouts.repair(healthy(keyspace=keyspace, tables=(table(**ago, repairs_known=known),))))
    assert len(found) == (seen is not None)
    if seen is not None:
        assert found[0].seen.startswith(seen)


def test_no_repair_is_asked_for_where_none_comes_in_time() -> None:
    never = with_table(gc_grace=3600, repaired_at=None)
    assert list(layouts.repair(never)) == []
    assert [finding.severity for finding in layouts.gc_grace(never)] == ['warning']


def workload(kind: str, reads: int, writes: int, ttl: int = 0, clustering: tuple[str, ...] = ('timestamp',)) -> Facts:
    return healthy(
        tables=(table(compaction={'class': kind}, default_ttl=ttl, clustering=clustering),),
        readings=(reading(reads=reads, writes=writes), reading(node='127.0.0.2:9042', reads=0, writes=0)),
    )


@pytest.mark.parametrize(
    ('kind', 'reads', 'writes', 'ttl', 'clustering', 'severity'),
    [
        ('SizeTieredCompactionStrategy', 500, 500, 0, ('timestamp',), None),
        ('SizeTieredCompactionStrategy', 20_000, 100, 0, ('timestamp',), 'info'),
        ('SizeTieredCompactionStrategy', 20_000, 5_000, 0, ('timestamp',), None),
        ('SizeTieredCompactionStrategy', 9_000, 100, 0, ('timestamp',), None),  # too few to tell
        ('LeveledCompactionStrategy', 100, 20_000, 0, ('timestamp',), 'warning'),
        ('LeveledCompactionStrategy', 20_000, 100, 0, ('timestamp',), None),
        ('SizeTieredCompactionStrategy', 0, 0, MONTH, ('timestamp',), 'warning'),
        ('LeveledCompactionStrategy', 0, 0, MONTH, ('timeuuid',), 'warning'),
        ('SizeTieredCompactionStrategy', 0, 0, MONTH, ('text', 'timestamp'), None),  # not in order of time
        ('UnifiedCompactionStrategy', 20_000, 100, MONTH, ('timestamp',), None),
        ('TimeWindowCompactionStrategy', 0, 0, MONTH, ('text',), 'info'),
        ('TimeWindowCompactionStrategy', 0, 0, MONTH, ('text', 'timestamp'), None),
        ('DateTieredCompactionStrategy', 0, 0, 0, ('timestamp',), 'error'),
    ],
)
def test_compaction(
    kind: str, reads: int, writes: int, ttl: int, clustering: tuple[str, ...], severity: str | None
) -> None:
    found = list(layouts.compaction(workload(kind, reads, writes, ttl, clustering)))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_unified_compaction_is_proposed_where_every_node_has_it() -> None:
    facts = workload('SizeTieredCompactionStrategy', 20_000, 100)
    assert 'UnifiedCompactionStrategy' in only(layouts.compaction(facts)).changes[0]
    mixed = dataclasses.replace(facts, nodes=(node(1), node(2, release='4.1.11')))
    assert 'LeveledCompactionStrategy' in only(layouts.compaction(mixed)).changes[0]


@pytest.mark.parametrize(
    ('options', 'reads', 'severity'),
    [
        ({'class': 'x.LZ4Compressor', 'chunk_length_in_kb': '16'}, 20_000, None),
        ({'enabled': 'false'}, 0, 'warning'),
        ({}, 0, 'warning'),
        ({'class': 'x.LZ4Compressor', 'chunk_length_in_kb': '64'}, 20_000, 'info'),
        ({'class': 'x.LZ4Compressor', 'chunk_length_in_kb': '64'}, 100, None),
    ],
)
def test_compression(options: dict[str, str], reads: int, severity: str | None) -> None:
    facts = healthy(tables=(table(compression=options),), readings=(reading(reads=reads),))
    assert [finding.severity for finding in layouts.compression(facts)] == ([severity] if severity else [])


# Nodes


def test_a_node_that_is_down() -> None:
    finding = only(cluster.down(with_nodes(node(1), node(2, down='no connection'), node(3, 'dc2'))))
    assert (finding.severity, finding.where) == ('error', '127.0.0.2:9042')
    assert finding.seen == 'no answer (no connection); 1 of 2 nodes of dc1 are down'


def test_schema_disagreement() -> None:
    finding = only(cluster.schema_disagreement(with_nodes(node(1), node(2), node(3, schema_version='b' * 36))))
    assert finding.seen == (
        '2 versions of the schema: aaaaaaaa on 127.0.0.1:9042, 127.0.0.2:9042; bbbbbbbb on 127.0.0.3:9042'
    )
    assert finding.changes[1] == 'nodetool resetlocalschema, on 127.0.0.3:9042'
    assert list(cluster.schema_disagreement(with_nodes(node(1), node(2, down='gone', schema_version=None)))) == []


@pytest.mark.parametrize(
    ('clocks', 'severities'),
    [
        ([Clock(0.5, 0.0), Clock(0.0, 0.0)], []),
        ([Clock(0.6, 0.05), Clock(0.4, 0.05)], ['warning']),
        ([Clock(0.6, 0.2), Clock(0.4, 0.1)], []),  # the reading may be wrong by as much
        ([Clock(-0.6, 0.05), Clock(-0.4, 0.05)], ['warning']),
        ([Clock(-0.4, 0.01), Clock(0.4, 0.01)], ['warning']),  # each near the client, and far apart
        ([Clock(6, 0.01), Clock(6, 0.01)], ['error', 'error']),
        ([Clock(-6, 0.01), None], ['error']),
    ],
)
def test_clock_skew(clocks: list[Clock | None], severities: list[str]) -> None:
    facts = with_nodes(*(node(number, clock=clock) for number, clock in enumerate(clocks, 1)))
    assert [finding.severity for finding in cluster.clock_skew(facts)] == severities


def test_a_skew_is_told_with_its_error() -> None:
    finding = only(cluster.clock_skew(with_nodes(node(1, clock=Clock(-2.5, 0.004)))))
    assert finding.seen.startswith('2.500 s behind the client, +- 0.004 s (limit 0.5 s)')


@pytest.mark.parametrize(
    ('settings', 'severities'),
    [
        (SETTINGS, []),
        ({'compaction_throughput': '0MiB/s'}, ['warning']),
        ({'compaction_throughput': '0'}, ['warning']),
        ({'compaction_throughput': '0.0MiB/s'}, ['warning']),
        ({'compaction_throughput': '10MiB/s'}, []),
        ({'stream_throughput_outbound': '0MiB/s'}, ['info']),
        ({'internode_compression': 'none'}, []),  # one data center
        ({}, []),
    ],
)
def test_throughput(settings: dict[str, str], severities: list[str]) -> None:
    assert [finding.severity for finding in cluster.throughput(with_nodes(node(1, settings=settings)))] == severities


def test_plain_traffic_between_data_centers() -> None:
    settings = {'internode_compression': 'none'}
    facts = with_nodes(node(1, settings=settings), node(2, 'dc2', settings=settings))
    assert only(cluster.throughput(facts)).changes == (
        'internode_compression: dc -- in cassandra.yaml, then restart the nodes one by one',
    )


# Releases


@pytest.mark.parametrize(
    ('release', 'sources'),
    [
        ('5.0.9', []),
        ('5.0.8', []),
        ('5.0.7', []),
        ('5.0.6', ['CVE-2026-32588', 'CVE-2026-27314']),
        ('5.0.3', ['CVE-2026-32588', 'CVE-2026-27314', 'CASSANDRA-20449', 'CASSANDRA-20189']),
        (
            '5.0.2',
            [
                'CVE-2025-23015',
                'CVE-2025-24860',
                'CVE-2026-32588',
                'CVE-2026-27314',
                'CASSANDRA-20449',
                'CASSANDRA-20189',
            ],
        ),
        ('4.1.11', []),
        ('4.1.10', ['CVE-2026-32588']),
        ('4.1.7-SNAPSHOT', ['CVE-2025-23015', 'CVE-2025-24860', 'CVE-2026-32588']),
        ('4.0.20', ['schema.md']),
        ('3.11.19', ['schema.md']),
        ('6.0-alpha1', []),
    ],
)
def test_releases_of_the_server(release: str, sources: list[str]) -> None:
    found = list(versions.server_releases(with_nodes(node(1, release=release), node(2, release=release))))
    assert [finding.seen.rpartition('/')[2].rpartition('#')[2].rstrip(')') for finding in found] == sources
    assert all(finding.where == '127.0.0.1:9042, 127.0.0.2:9042' for finding in found)


def test_several_releases_at_once() -> None:
    finding = only(versions.server_releases(with_nodes(node(1, release='5.0.8'), node(2, release='5.0.9'))))
    assert finding.seen.startswith('2 releases at once: 5.0.8 on 127.0.0.1:9042; 5.0.9 on 127.0.0.2:9042')


@pytest.mark.parametrize(
    ('driver', 'python', 'severities'),
    [
        ('3.30.1', (3, 13), []),
        ('3.29.3', (3, 13), []),
        ('3.29.2', (3, 13), ['warning']),
        ('3.29.2', (3, 10), []),
        ('3.28.0', (3, 10), ['error']),
        ('3.25.0', (3, 10), ['error']),
    ],
)
def test_releases_of_the_driver(driver: str, python: tuple[int, ...], severities: list[str]) -> None:
    found = versions.driver_release(healthy(driver=driver, python=python))
    assert [finding.severity for finding in found] == severities


@pytest.mark.parametrize('bad', [*versions.SERVER, *versions.DRIVER])
def test_each_bad_release_has_a_reason_a_source_and_an_end(bad: versions.Bad) -> None:
    assert bad.reason
    assert bad.source
    assert bad.fixed is not None
    assert bad.first < bad.fixed
    assert bad.severity in doctor.SEVERITIES


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0.5, '0.5 s'), (59, '59 s'), (60, '1 minute'), (86400, '1 day'), (5400, '1.5 hours'), (2592000, '30 days')],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_megabytes() -> None:
    assert megabytes(1_234_567_890) == '1,234.6 MB'
