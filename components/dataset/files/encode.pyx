# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Record batches -> framed TFRecords of tf.Examples -> splits, without a Python object per row.

At every level of a tf.Example the size precedes the content. So rows are written backwards, from the last byte of the
last row to the first byte of the first: each size is known when it is written, and nothing is measured beforehand.

    frame     uint64 size | masked CRC32C of it | Example | masked CRC32C of that
    Example   0A size Features, if there is any feature
    Features  for each column that is not null, by name: 0A size (0A size name | 12 size Feature)
    Feature   0A (bytes), 12 (floats) or 1A (integers) size list
    list      0A size bytes, for each value; numbers: 0A size values, if there is any

A tf.SequenceExample is an Example, its context, and behind it

    12 size FeatureLists, if there is any list; it holds for each list, by name:
    0A size (0A size name | 12 size (0A size Feature, for each step))

The messages are those of tensorflow/core/example/example.proto and feature.proto, the frames those of
tensorflow/core/lib/io/record_writer.cc.
"""

from array import array

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.errors import DatasetError, invalid

cdef extern from 'wire.h':
    enum:
        FRAME_HEAD, FRAME_FOOT, CHUNK
        INTEGER, FLOAT, DOUBLE, BYTES, LARGE_BYTES
        SCALAR, LIST, LARGE_LIST, FIXED_LIST
        BYTES_TAG, FLOAT_TAG, INTEGER_TAG
    ctypedef struct Column:
        int leaf, shape, tag
        const uint8_t* valid
        const uint8_t* lists
        const uint8_t* values
        const uint8_t* starts
        const uint8_t* head
        int64_t valid_at, first, width, cursor, head_size, name_size, small
        float largest
    ctypedef struct Extent:
        pass
    int hashes_init(int portable)
    int varint_size(int64_t v)
    int64_t list_start(const Column* c, int64_t i)
    int64_t value_start(const Column* c, int64_t i)
    int64_t write_frames(uint8_t* base, int64_t room, Column* columns, int plain, int count, int64_t rows,
                         int64_t largest, int64_t* starts, int keyed, Extent* keys) noexcept nogil
    int assign_splits(const uint8_t* base, const int64_t* starts, const Extent* keys, int64_t rows,
                      const uint32_t* ends, int count, int32_t* splits, uint64_t* hashes) noexcept nogil
    void hash_records(const uint8_t* base, const int64_t* starts, int64_t rows, uint64_t* hashes) noexcept nogil

LARGEST = 2**31 - 1  # bytes of a protocol buffer message
_TAGS = {'bytes_list': BYTES_TAG, 'float_list': FLOAT_TAG, 'int64_list': INTEGER_TAG}
_CASTS = {'bytes_list': pa.binary(), 'float_list': pa.float64(), 'int64_list': pa.int64()}
_SHAPES = {pa.lib.Type_LIST: LIST, pa.lib.Type_LARGE_LIST: LARGE_LIST, pa.lib.Type_FIXED_SIZE_LIST: FIXED_LIST}
_LEAVES = {
    ('bytes_list', pa.lib.Type_STRING): BYTES,
    ('bytes_list', pa.lib.Type_BINARY): BYTES,
    ('bytes_list', pa.lib.Type_LARGE_STRING): LARGE_BYTES,
    ('bytes_list', pa.lib.Type_LARGE_BINARY): LARGE_BYTES,
    ('float_list', pa.lib.Type_FLOAT): FLOAT,
    ('float_list', pa.lib.Type_DOUBLE): DOUBLE,
    ('int64_list', pa.lib.Type_INT64): INTEGER,
    ('int64_list', pa.lib.Type_TIMESTAMP): INTEGER,
    ('int64_list', pa.lib.Type_TIME64): INTEGER,
}  # every other type is cast first


def use_portable(bint portable):
    """Selects hashes in portable C, or (the default) with the processor's hash instructions if it has them.

    Returns:
      Number of hashes, of two, that use such instructions.
    """
    return hashes_init(portable)


use_portable(False)


cdef class Framed:
    """Framed tf.Examples, created by `encode`.

    Attributes:
      buffer: The concatenated frames: the content of a TFRecord file.
      offsets: int64, of shape (rows + 1): the start of each frame in `buffer`, and the end of the last one.
      overflows: For each feature, the number of values that are infinite because they exceed a 32-bit float, if any.
    """

    cdef readonly object buffer, offsets, overflows
    cdef int64_t rows
    cdef uint8_t* base
    cdef int64_t* starts
    cdef Extent* keys
    cdef uint64_t* hashes
    cdef object key, keys_buffer, ends, splits, hashes_buffer

    def __init__(self):
        raise TypeError('Framed: got a call, rule: made by encode')

    def __len__(self):
        return self.rows

    def assign(self, ends):
        """Returns the split of each row by the rule of TFX's `base_example_gen_executor._PartitionFn`.

        Args:
          ends: For each split, the bucket after its last bucket, ascending.

        Returns:
          int32 array, of shape (rows): indices into `ends`.

        Raises:
          ValueError: The ends do not ascend from 1 or more to less than 2^32.
          DatasetError: A row lacks the key feature, or the feature holds floats.
        """
        ends = list(ends)
        if self.ends == ends:
            return self.splits
        if not ends or any(a >= b for a, b in zip([0, *ends], [*ends, 1 << 32])):
            raise invalid('ends', ends, 'ascending, at least 1 and below 2^32')
        # An array.array, because for a list pyarrow imports pandas, which takes almost a second.
        ends_buffer, splits_buffer = pa.py_buffer(array('I', ends)), pa.allocate_buffer(4 * self.rows)
        cdef const uint32_t* end = <const uint32_t*>_address(ends_buffer)
        cdef int32_t* split = <int32_t*>_address(splits_buffer)
        cdef int count = len(ends), done
        cdef uint64_t* hashes = NULL
        if self.keys == NULL and count > 1:
            hashes = _allocate_hashes(self)
        with nogil:
            done = assign_splits(self.base, self.starts, self.keys, self.rows, end, count, split, hashes)
        if not done:
            rule = 'in every example, with text or integers'
            raise DatasetError(f'output_config.partition_feature_name: got {self.key!r}, rule: {rule}')
        self.ends, self.splits = ends, pa.Array.from_buffers(pa.int32(), self.rows, [None, splits_buffer])
        return self.splits

    def counts_by(self, splits, int count):
        """Returns the number of rows of each split; see `parts_by`."""
        cdef const int32_t* split = _splits(splits, self.rows)
        cdef bytearray counts = bytearray(8 * count)
        cdef int64_t* counted = <int64_t*><char*>counts
        cdef int64_t row
        with nogil:
            for row in range(self.rows):
                if 0 <= split[row] < count:
                    counted[split[row]] += 1
        return [counted[i] for i in range(count)]

    def parts_by(self, splits, int count):
        """Returns the frames of each split, in row order, as one bytes object.

        Args:
          splits: int32 array, of shape (rows): each row's split, from 0 to count - 1; others are in no split.
          count: Number of splits.

        Raises:
          ValueError: `splits` is not such an array.
        """
        cdef const int32_t* split = _splits(splits, self.rows)
        cdef bytearray sizes = bytearray(8 * count), outs = bytearray(8 * count)
        cdef int64_t* size = <int64_t*><char*>sizes
        cdef char** out = <char**><char*>outs
        cdef int64_t row, bytes_
        cdef list parts = []
        with nogil:
            for row in range(self.rows):
                if 0 <= split[row] < count:
                    size[split[row]] += self.starts[row + 1] - self.starts[row]
        for i in range(count):
            part = PyBytes_FromStringAndSize(NULL, size[i])
            out[i] = PyBytes_AS_STRING(part)
            parts.append(part)
        with nogil:
            for row in range(self.rows):
                if 0 <= split[row] < count:
                    bytes_ = self.starts[row + 1] - self.starts[row]
                    memcpy(out[split[row]], self.base + self.starts[row], bytes_)
                    out[split[row]] += bytes_
        return parts

    def checksums_by(self, splits, int count):
        """Returns the checksum of each split: the sum over its examples of the first 64 bits of each one's SHA-256,
        modulo 2^64; see `parts_by`.
        """
        cdef const int32_t* split = _splits(splits, self.rows)
        cdef bytearray sums = bytearray(8 * count)
        cdef uint64_t* sum_ = <uint64_t*><char*>sums
        cdef uint64_t* hashes = self.hashes  # already computed if the examples were split by their hashes
        cdef int64_t row
        if hashes == NULL:
            hashes = _allocate_hashes(self)
            with nogil:
                hash_records(self.base, self.starts, self.rows, hashes)
        with nogil:
            for row in range(self.rows):
                if 0 <= split[row] < count:
                    sum_[split[row]] += hashes[row]
        return [sum_[i] for i in range(count)]


def encode(batch, kinds, key=None, sequences=()):
    """Serializes each row as a tf.Example, deterministically, and frames it as a TFRecord.

    Args:
      batch: Rows, of shape (rows, columns); a column becomes the feature of its name.
      kinds: Kind of each column, by name: 'int64_list', 'float_list' or 'bytes_list'.
      key: Name of the feature by which rows are assigned to splits; None for the whole example.
      sequences: Names of columns of lists. If there are any, a row becomes a tf.SequenceExample: these columns are its
        feature lists, with one step per item, and the other columns its context.

    Returns:
      The Framed examples, one per row.

    Raises:
      ValueError: Two columns have one name, a column has no kind, or a sequence is not a column of lists.
      DatasetError: A column's values do not fit its kind, a list holds a null, or an example is too long.
    """
    names = batch.schema.names
    if len(set(names)) < len(names):
        raise invalid('batch', names, 'each column name once')
    if unknown := [name for name in names if kinds.get(name) not in _TAGS]:
        raise invalid('kinds', unknown, f'one of {sorted(_TAGS)} for each column')
    sequence_names = set(sequences)
    if sequence_names - set(names) or key in sequence_names:
        raise invalid('sequences', sorted(sequence_names), 'columns of the batch, and not the key')
    order = sorted(range(len(names)), key=lambda i: (names[i] in sequence_names, names[i].encode()))
    cdef int64_t rows = batch.num_rows, room = CHUNK + rows * (FRAME_HEAD + FRAME_FOOT + 22), largest = LARGEST, start
    cdef int count = len(order), plain = count - len(sequence_names), keyed = -1, i
    cdef Framed framed = Framed.__new__(Framed)
    cdef Column* columns = <Column*>calloc(count + 1, sizeof(Column))
    if columns == NULL:
        raise MemoryError()
    try:
        references = []  # what must not be freed while `columns` are used
        for i, at in enumerate(order):
            references.append(_bind(columns + i, names[at], kinds[names[at]], batch.column(at), i >= plain, &room))
            if names[at] == key and columns[i].tag != FLOAT_TAG:
                keyed = i
        _allocate(framed, room, rows, key)
        with nogil:
            start = write_frames(
                framed.base, room, columns, plain, count, rows, largest, framed.starts, keyed, framed.keys
            )
        infinite = [i for i in range(count) if columns[i].largest == INFINITY]
    finally:
        free(columns)
    if start < 0:
        raise DatasetError(f'example of row {-1 - start}: got too many bytes, rule: at most {largest}')
    counts = {names[order[i]]: _overflows(*references[i][2:]) for i in infinite}
    framed.overflows = {name: number for name, number in counts.items() if number}
    framed.base += start
    framed.buffer = framed.buffer.slice(start)
    return framed


cdef const int32_t* _splits(splits, int64_t rows) except? NULL:
    if not isinstance(splits, pa.Int32Array) or len(splits) != rows or splits.null_count:
        raise invalid('splits', splits, f'an int32 array of {rows} values without nulls')
    return <const int32_t*>_address(splits.buffers()[1], 4 * splits.offset)


cdef int _allocate(Framed framed, int64_t room, int64_t rows, key) except -1:
    framed.rows, framed.key = rows, key
    framed.buffer, offsets = pa.allocate_buffer(room), pa.allocate_buffer(8 * (rows + 1))
    framed.offsets = pa.Array.from_buffers(pa.int64(), rows + 1, [None, offsets])
    framed.base, framed.starts = <uint8_t*>_address(framed.buffer), <int64_t*>_address(offsets)
    if key is not None:
        framed.keys_buffer = pa.allocate_buffer(rows * sizeof(Extent))
        framed.keys = <Extent*>_address(framed.keys_buffer)
    return 0


cdef uint64_t* _allocate_hashes(Framed framed) except NULL:
    framed.hashes_buffer = pa.allocate_buffer(max(8 * framed.rows, 1))
    framed.hashes = <uint64_t*>_address(framed.hashes_buffer)
    return framed.hashes


cdef object _bind(Column* c, str name, str kind, array, bint stepwise, int64_t* room):
    """Points `c` to the buffers of an array, and adds the maximum size of its features to `room`.

    Returns:
      The objects that must not be freed while `c` is used.
    """
    utf8 = name.encode()
    # Sizes that take more than one byte are never read from here: see `small`.
    head = bytes(CHUNK) + b'\n\0\n%c%b\x12\0%c\0\n\0' % (len(utf8) & 0x7F, utf8, _TAGS[kind])
    c.tag, c.name_size, c.head_size, c.small = _TAGS[kind], len(utf8), len(head) - CHUNK, 127 - 8 - len(utf8)
    c.head = <const uint8_t*>PyBytes_AS_STRING(head) + CHUNK
    c.shape = _SHAPES.get(array.type.id, SCALAR)
    if stepwise and c.shape == SCALAR:
        raise invalid('sequences', name, f'a column of lists; it is of {array.type}')
    # A null list may still have items in the buffer, so null rows are dropped.
    lists = array.drop_null() if c.shape != SCALAR and array.null_count else array
    items = array if c.shape == SCALAR else _items(c, lists)
    item_type = items.type
    try:
        if pa.types.is_date32(items.type):
            items = items.cast(pa.int32())
        if (kind, items.type.id) not in _LEAVES:
            items = items.cast(_CASTS[kind])
    except pa.ArrowException as e:
        raise DatasetError(f'{name}: got {array.type}, rule: a {kind}: {str(e).splitlines()[0]}') from e
    c.leaf = _LEAVES[kind, items.type.id]
    if c.shape != SCALAR and items.null_count:
        raise DatasetError(f'{name}: got a null in a list, rule: lists of values only')
    nulls = items if c.shape == SCALAR else array
    c.valid = <const uint8_t*>_address(nulls.buffers()[0] if nulls.null_count else None)
    c.valid_at = nulls.offset
    buffers = items.buffers()
    cdef int64_t rows = len(array), count = len(items), max_size = 10, size
    if c.leaf >= BYTES:
        c.values = <const uint8_t*>_address(buffers[2])
        c.starts = <const uint8_t*>_address(buffers[1], items.offset * (4 if c.leaf == BYTES else 8))
        max_size = size = value_start(c, count) - value_start(c, 0) if count else 0
    else:
        c.values = <const uint8_t*>_address(buffers[1], items.offset * (4 if c.leaf == FLOAT else 8))
        size = count * (10 if c.leaf == INTEGER else 4)
    if c.shape != SCALAR:
        max_size = size = size + count * (1 + varint_size(size + 30)) * (3 if stepwise else 1)
    room[0] += size + rows * (c.name_size + 5 * (1 + varint_size(max_size + c.name_size + 60)))
    return head, lists, items, item_type


def _overflows(items, item_type):
    """Returns how many items of a column are infinite because they exceed a 32-bit float."""
    infinite = _infinite(items.cast(pa.float32()))
    # Columns of text were decimals, which are never infinite.
    is_text = pa.types.is_string(item_type) or pa.types.is_large_string(item_type)
    return infinite if is_text else infinite - _infinite(items)


def _infinite(array):
    return pc.sum(pc.is_inf(array), min_count=0).as_py()


cdef object _items(Column* c, lists):
    """Points `c` to the offsets of lists; returns their items as one array."""
    c.cursor = len(lists)
    if c.shape == FIXED_LIST:
        c.width = lists.type.list_size
        return lists.values.slice(lists.offset * c.width, c.cursor * c.width)
    offsets = lists.buffers()[1]
    c.lists = <const uint8_t*>_address(offsets, lists.offset * (4 if c.shape == LIST else 8))
    c.first = list_start(c, 0) if c.cursor else 0
    return lists.values.slice(c.first, list_start(c, c.cursor) if c.cursor else 0)


cdef uintptr_t _address(buffer, int64_t offset=0) except? 0:
    return <uintptr_t>buffer.address + offset if buffer is not None else 0
