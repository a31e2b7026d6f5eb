"""Settings of cassandra.yaml and table options for a workload, by the names of Cassandra 4.1 and 5.0.

Since 4.1 a setting carries its unit in its value (`commitlog_sync_period: 10000ms`) and no longer in its name
(`commitlog_sync_period_in_ms`). docs/tuning.md says what each does on one machine, and which do nothing there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Annotated

from tfx_cassandra.components.checks import Rule, check_fields
from tfx_cassandra.components.errors import invalid

WORKLOADS = ('ingest', 'serve', 'training')
FAMILIES = ('4.1', '5.0')

_MIB = 1 << 20
_MAX_FILE_CACHE, _MAX_KEY_CACHE = 2048, 512  # MiB
Cores = Annotated[int, Rule('an integer from 1 to 1024', lambda cores: 1 <= cores <= 1024)]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of cassandra.yaml, or one option of a table.

    Attributes:
      name: Its name.
      value: Its value: a text or number, or a mapping for a setting with parts.
      reason: Why, in one sentence.
    """

    name: str
    value: object
    reason: str


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What is set for a workload.

    Attributes:
      workload: 'ingest', 'serve' or 'training'.
      family: '4.1' or '5.0'.
      heap: Java heap of a node, such as 512M or 8G.
      cores: Processors of a node.

    Raises:
      ValueError: A field breaks its rule.
    """

    workload: str
    family: str = '5.0'
    heap: str = '8G'
    cores: Cores = 8

    def __post_init__(self) -> None:
        check_fields(self)
        if self.workload not in WORKLOADS:
            raise invalid('workload', self.workload, f'one of {", ".join(WORKLOADS)}')
        if self.family not in FAMILIES:
            raise invalid('version', self.family, f'one of {", ".join(FAMILIES)}')
        check_heap(self.heap)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings of cassandra.yaml."""
        return {'ingest': self._ingest, 'serve': self._serve, 'training': self._training}[self.workload]()

    @property
    def table_options(self) -> tuple[Setting, ...]:
        """The options of the tables that the workload writes or reads."""
        return _TABLE_OPTIONS[self.workload]

    @property
    def yaml(self) -> dict[str, object]:
        """The settings as the content of cassandra.yaml."""
        return {setting.name: setting.value for setting in self.settings}

    def _ingest(self) -> tuple[Setting, ...]:
        heap = heap_bytes(self.heap) // _MIB
        found = [
            Setting(
                'commitlog_sync',
                'periodic',
                'A write is acknowledged before the disk has it; the replicas, not one disk, are what keeps it.',
            ),
            Setting(
                'commitlog_sync_period',
                '10000ms',
                'The commit log is synced this often: what a node that loses power may lose of its own copy.',
            ),
            Setting(
                'commitlog_segment_size',
                '64MiB',
                'Fewer segments to open and recycle; a mutation may be half of one, so large batches fit too.',
            ),
            Setting(
                'memtable_allocation_type',
                'offheap_objects',
                'Cells lie outside of the Java heap: fewer and shorter collections under many small writes.',
            ),
            Setting('memtable_heap_space', f'{heap // 4}MiB', 'A quarter of the heap for the keys of memtables.'),
            Setting(
                'memtable_offheap_space',
                f'{heap // 2}MiB',
                'Larger memtables are flushed less often, into larger SSTables that need less compaction.',
            ),
            Setting(
                'memtable_flush_writers',
                max(2, self.cores // 4),
                'Flushes that run at once; writes stop when memtables are full and none is flushed.',
            ),
            Setting('concurrent_writes', 8 * self.cores, 'Eight writing threads a processor.'),
            Setting(
                'concurrent_compactors',
                max(2, self.cores // 2),
                'Compaction has to keep up with the flushes, or reads find ever more SSTables.',
            ),
            Setting(
                'compaction_throughput',
                '128MiB/s',
                'Twice the default, for disks that bear it: pending compactions are the debt of an ingest.',
            ),
        ]
        if self.family == '5.0':
            # The skip list is kept under its own name, for tables that ask for it.
            kinds = {'skiplist': {'class_name': 'SkipListMemtable'}, 'trie': {'class_name': 'TrieMemtable'}}
            memtable = {'configurations': {**kinds, 'default': {'inherits': 'trie'}}}
            reason = 'A trie holds the same rows in less memory than a skip list, with less garbage, and is sharded.'
            found.append(Setting('memtable', memtable, reason))
        return tuple(found)

    def _serve(self) -> tuple[Setting, ...]:
        heap = heap_bytes(self.heap) // _MIB
        found = [
            Setting(
                'concurrent_reads', max(32, 8 * self.cores), 'Reads that miss the page cache wait for the disk at once.'
            ),
            self._file_cache('Buffers for compressed chunks, outside of the heap: reads of the same chunk share one.'),
            Setting(
                'row_cache_size',
                f'{max(16, heap // 16)}MiB',
                'Holds the newest row of hot partitions, for tables whose caching option asks for it (see below).',
            ),
            Setting(
                'compaction_throughput', '32MiB/s', 'Half the default: compaction leaves the disk to reads that wait.'
            ),
        ]
        if self.family == '4.1':
            size = f'{max(8, min(heap // 10, _MAX_KEY_CACHE))}MiB'
            reason = 'A tenth of the heap (the default ends at 100 MiB): a hit spares the search in an index file.'
            return (*found, Setting('key_cache_size', size, reason))
        reason = 'The BTI format finds a partition in a trie on disk: fewer reads, and no key cache that must be warm.'
        compatible = 'BTI is written only without compatibility to 4.x: from here on there is no way back to 4.1.'
        return (
            *found,
            Setting('sstable', {'selected_format': 'bti'}, reason),
            Setting('storage_compatibility_mode', 'NONE', compatible),
        )

    def _training(self) -> tuple[Setting, ...]:
        return (
            Setting(
                'concurrent_reads', max(32, 8 * self.cores), 'A parallel scan asks for a page of many ranges at once.'
            ),
            self._file_cache('Buffers for the chunks that the pages of a scan share at their ends.'),
            Setting(
                'range_request_timeout',
                '30000ms',
                'A page of a scan may have to pass over many tombstones or a large partition before it is full.',
            ),
            Setting(
                'compaction_throughput',
                '16MiB/s',
                'A scan reads all SSTables once and gains nothing from their being merged meanwhile.',
            ),
            Setting(
                'key_cache_size', '0MiB', 'A scan walks through the index in order; the memory is left to other things.'
            ),
        )

    def _file_cache(self, reason: str) -> Setting:
        size = max(32, min(heap_bytes(self.heap) // _MIB // 4, _MAX_FILE_CACHE))
        return Setting('file_cache_size', f'{size}MiB', reason)


_TABLE_OPTIONS = {
    'ingest': (
        Setting(
            'compression',
            {'class': 'LZ4Compressor', 'chunk_length_in_kb': '64'},
            'Larger chunks compress better, and a flush writes fewer of them; reads by key then decompress more.',
        ),
    ),
    'serve': (
        Setting(
            'compression',
            {'class': 'LZ4Compressor', 'chunk_length_in_kb': '4'},
            'A read by key decompresses whole chunks: four KiB instead of sixteen, for more memory of chunk offsets.',
        ),
        Setting(
            'bloom_filter_fp_chance',
            0.001,
            'One read in a thousand opens an SSTable in vain, not one in a hundred, for half as much memory again.',
        ),
        Setting(
            'caching',
            {'keys': 'ALL', 'rows_per_partition': '1'},
            'The newest row of a partition is served from the row cache; every write to the partition drops it again.',
        ),
    ),
    'training': (
        Setting(
            'compression',
            {'class': 'LZ4Compressor', 'chunk_length_in_kb': '64'},
            'A scan uses every row of a chunk: larger chunks are fewer reads and a better ratio.',
        ),
        Setting(
            'caching',
            {'keys': 'NONE', 'rows_per_partition': 'NONE'},
            'A scan would only push the hot keys of others out.',
        ),
    ),
}


def family_of(release: str) -> str:
    """Returns '4.1' or '5.0' for a release such as 5.0.8.

    Raises:
      ValueError: It is neither.
    """
    found = [family for family in FAMILIES if f'{release}.'.startswith(f'{family}.')]
    if not found:
        raise invalid('version', release, f'one of {", ".join(FAMILIES)}, or a release of one')
    return found[0]


def heap_bytes(heap: str) -> int:
    """Returns the bytes of a Java heap such as 512M or 1G."""
    return int(heap[:-1]) << {'M': 20, 'G': 30}[heap[-1]]


def check_heap(heap: str) -> None:
    """Raises ValueError unless a text is a Java heap such as 512M or 8G."""
    if not re.fullmatch(r'[1-9]\d*[MG]', heap) or heap_bytes(heap) < 256 * _MIB:
        raise invalid('heap', heap, 'a whole number with M or G, 256M at least')


def yaml_text(tuning: Tuning) -> str:
    """Returns the fragment of cassandra.yaml, each setting after its reason."""
    node = f'heap {tuning.heap}, {tuning.cores} cores'
    lines = [f'# cassandra.yaml of Cassandra {tuning.family} for {tuning.workload}: {node}']
    for setting in tuning.settings:
        lines += ['', f'# {setting.reason}', *_yaml_lines(setting.name, setting.value)]
    return '\n'.join(lines) + '\n'


def cql_text(tuning: Tuning, table: str) -> str:
    """Returns the statements that set the options of a table, each after its reason.

    Args:
      tuning: What is set.
      table: The quoted name of the table, with its keyspace.
    """
    lines = []
    for option in tuning.table_options:
        value = str(option.value)  # Python writes a mapping of texts as CQL does
        lines += [f'-- {option.reason}', f'ALTER TABLE {table} WITH {option.name} = {value};', '']
    return '\n'.join(lines)


def _yaml_lines(name: str, value: object, indent: str = '') -> list[str]:
    if isinstance(value, Mapping) and any(isinstance(part, Mapping) for part in value.values()):
        inner = [line for key, part in value.items() for line in _yaml_lines(key, part, f'{indent}  ')]
        return [f'{indent}{name}:', *inner]
    if isinstance(value, Mapping):
        parts = ', '.join(f'{key}: {part}' for key, part in value.items())
        return [f'{indent}{name}: {{{parts}}}']
    return [f'{indent}{name}: {value if isinstance(value, str) else json.dumps(value)}']
