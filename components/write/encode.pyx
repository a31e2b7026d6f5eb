# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Arrow arrays -> serialized CQL values -> the bodies of BATCH requests, without a Python object per value.

A column is serialized by its type (`encode`), the reverse of cql/rows.pyx. Its values need not lie side by side: those
of a text column stay where Arrow has them. `Keys` are the partition keys of rows with their tokens, and `bodies` packs
the rows of one partition after the other into requests, each under a number of bytes.

The wire format is that of the CQL binary protocol, versions 4 and 5 (native_protocol_v5.spec, sections 4.1.7 and 6).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT32_MAX, int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

import uuid

import pyarrow as pa

from tfx_cassandra.components.errors import invalid

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t swap16(const uint8_t* p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    static inline uint32_t swap32(const uint8_t* p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    static inline uint64_t swap64(const uint8_t* p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
    static inline void put16(uint8_t* p, uint16_t v) { v = __builtin_bswap16(v); memcpy(p, &v, 2); }
    static inline void put32(uint8_t* p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
    static inline int leading_zeros(uint64_t v) { return __builtin_clzll(v); }
    static inline uint64_t rotl64(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }
    """
    uint16_t swap16(const uint8_t* p) nogil
    uint32_t swap32(const uint8_t* p) nogil
    uint64_t swap64(const uint8_t* p) nogil
    void put16(uint8_t* p, uint16_t v) nogil
    void put32(uint8_t* p, uint32_t v) nogil
    int leading_zeros(uint64_t v) nogil
    uint64_t rotl64(uint64_t x, int r) nogil

MOST_ROWS = 65535  # of one request, as the protocol counts them
LARGEST_KEY = 65535  # bytes of a partition key
DELETED, UNSET = -1, -2  # lengths that stand for no value: delete it, or leave it as it is


cdef enum Code:
    FIXED, BOOLEAN, BYTES, UUID, VARINT, DURATION, LIST, MAP, TUPLE, VECTOR, PYTHON


_CODES = {
    'fixed': FIXED, 'boolean': BOOLEAN, 'bytes': BYTES, 'uuid': UUID, 'varint': VARINT, 'duration': DURATION,
    'list': LIST, 'map': MAP, 'tuple': TUPLE, 'vector': VECTOR, 'python': PYTHON,
}


cdef class Coding:
    """How to serialize values of one CQL type; created by `coding.coding_of`.

    Args:
      code: The layout of a value: a key of _CODES.
      arrow: Arrow type of the arrays.
      parts: Codings of a nested type's parts.
      flip: Whether the sign bit of a fixed-width value is inverted.
      length: Number of elements of a vector.
      size: Bytes of each element of a vector; 0 if each is preceded by its length.
      encoder: Serializes a value of another type in Python.
    """

    cdef Code code
    cdef int width, size
    cdef int32_t length
    cdef uint32_t flip
    cdef readonly object arrow
    cdef list parts
    cdef object encoder

    def __init__(
        self, str code, object arrow, parts=(), bint flip=False, int32_t length=0, int size=0, encoder=None,
    ):
        self.code, self.arrow, self.parts = _CODES[code], arrow, list(parts)
        self.width = arrow.bit_width // 8 if self.code == FIXED else 0
        self.flip = 0x80000000 if flip else 0
        self.length, self.size, self.encoder = length, size, encoder


cdef class Values:
    """The serialized values of one column, created by `encode`; a length below zero is a null."""

    cdef const uint8_t* data
    cdef int64_t* starts
    cdef int32_t* lengths
    cdef readonly Py_ssize_t count
    cdef object owner

    def __init__(self):
        raise TypeError('Values: got a call, rule: made by encode')

    def __dealloc__(self):
        free(self.starts)

    @staticmethod
    def nulls(Py_ssize_t count):
        """Returns the values of a column in which every row has a null."""
        cdef Py_ssize_t i
        cdef Values made = _values(count)
        for i in range(count):
            made.starts[i], made.lengths[i] = 0, -1
        return made

    def value(self, Py_ssize_t row):
        """Returns the bytes of one value, or None for a null."""
        if not 0 <= row < self.count:
            raise IndexError(row)
        if self.lengths[row] < 0:
            return None
        return PyBytes_FromStringAndSize(<const char*>self.data + self.starts[row], self.lengths[row])


cdef Values _values(Py_ssize_t count):
    """Returns Values whose places are still to be set."""
    cdef Values made = Values.__new__(Values)
    made.count, made.data = count, NULL
    made.starts = <int64_t*>malloc((count + 1) * 12)
    if made.starts == NULL:
        raise MemoryError()
    made.lengths = <int32_t*>(made.starts + count + 1)
    return made


cdef uint8_t* _room(Values values, int64_t size):
    """Gives the values memory of their own; returns where it begins."""
    buffer = pa.allocate_buffer(size)
    values.owner = buffer
    values.data = <const uint8_t*><uintptr_t>buffer.address
    return <uint8_t*>values.data


cdef const uint8_t* _address(object buffer):
    return NULL if buffer is None else <const uint8_t*><uintptr_t>buffer.address


cdef inline bint _bit(const uint8_t* bits, Py_ssize_t i) noexcept nogil:
    return bits == NULL or (bits[i >> 3] >> (i & 7)) & 1


def encode(Coding coding, array):
    """Serializes an array of `coding.arrow`; returns its Values.

    Raises:
      ValueError: A value has no form in its CQL type, or the array has another type.
    """
    if coding is None or not isinstance(array, pa.Array) or array.type != coding.arrow:
        raise invalid('array', getattr(array, 'type', array), f'an array of {coding and coding.arrow}')
    return _encoded(coding, array)


cdef Values _encoded(Coding coding, object array):
    if coding.code == FIXED:
        return _fixed(coding, array)
    if coding.code == BYTES:
        return _bytes(array)
    if coding.code == BOOLEAN:
        return _boolean(array)
    if coding.code == UUID:
        return _uuid(array)
    if coding.code == VARINT:
        return _varint(array)
    if coding.code == DURATION:
        return _duration(array)
    if coding.code == LIST or coding.code == MAP:
        return _collection(coding, array)
    if coding.code == TUPLE:
        return _tuple(coding, array)
    if coding.code == VECTOR:
        return _vector(coding, array)
    return _python(coding, array)


cdef Values _fixed(Coding coding, object array):
    cdef Py_ssize_t i, count = len(array), offset = array.offset
    cdef int width = coding.width
    cdef uint32_t flip = coding.flip
    cdef Values made = _values(count)
    buffers = array.buffers()
    cdef const uint8_t* valid = _address(buffers[0])
    cdef const uint8_t* source = _address(buffers[1]) + offset * width
    cdef uint8_t* out = _room(made, count * width)
    with nogil:
        for i in range(count):
            made.starts[i] = i * width
            made.lengths[i] = width if _bit(valid, offset + i) else -1
        if width == 8:
            for i in range(count):
                (<uint64_t*>out)[i] = swap64(source + 8 * i)
        elif width == 4:
            for i in range(count):
                put32(out + 4 * i, (<const uint32_t*>source)[i] ^ flip)
        elif width == 2:
            for i in range(count):
                (<uint16_t*>out)[i] = swap16(source + 2 * i)
        else:
            memcpy(out, source, count)
    return made


cdef Values _bytes(object array):
    """Leaves text and blobs where they are."""
    cdef Py_ssize_t i, count = len(array), offset = array.offset
    cdef Values made = _values(count)
    buffers = array.buffers()
    cdef const uint8_t* valid = _address(buffers[0])
    cdef const int32_t* ends = <const int32_t*>_address(buffers[1])
    made.owner, made.data = array, _address(buffers[2])
    for i in range(count):
        made.starts[i] = ends[offset + i]
        made.lengths[i] = ends[offset + i + 1] - ends[offset + i] if _bit(valid, offset + i) else -1
    return made


cdef Values _boolean(object array):
    cdef Py_ssize_t i, count = len(array), offset = array.offset
    cdef Values made = _values(count)
    buffers = array.buffers()
    cdef const uint8_t* valid = _address(buffers[0])
    cdef const uint8_t* source = _address(buffers[1])
    cdef uint8_t* out = _room(made, count)
    for i in range(count):
        made.starts[i] = i
        made.lengths[i] = 1 if _bit(valid, offset + i) else -1
        out[i] = (source[(offset + i) >> 3] >> ((offset + i) & 7)) & 1
    return made


cdef inline int _digit(uint8_t c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    if 97 <= (c | 32) <= 102:
        return (c | 32) - 87
    return -1


cdef bint _parsed(const uint8_t* text, int32_t length, uint8_t* out) noexcept nogil:
    """Parses a uuid's canonical text; returns whether it is one."""
    cdef int i, j = 0, high, low
    if length != 36 or text[8] != 45 or text[13] != 45 or text[18] != 45 or text[23] != 45:
        return False
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            j += 1
        high, low = _digit(text[j]), _digit(text[j + 1])
        if high < 0 or low < 0:
            return False
        out[i] = <uint8_t>(high << 4 | low)
        j += 2
    return True


cdef Values _uuid(object array):
    cdef Py_ssize_t i, count = len(array)
    cdef Values made = _bytes(array)
    cdef const uint8_t* source = made.data
    cdef uint8_t* out = _room(made, count * 16)  # `array` keeps what is parsed
    cdef bytes raw
    for i in range(count):
        if made.lengths[i] > 0:
            if not _parsed(source + made.starts[i], made.lengths[i], out + 16 * i):
                raw = _other_uuid(array[i].as_py())
                memcpy(out + 16 * i, PyBytes_AS_STRING(raw), 16)
            made.lengths[i] = 16
        else:  # an empty text stands for no value, as Arrow has it below a null
            made.lengths[i] = -1
        made.starts[i] = 16 * i
    return made


cdef bytes _other_uuid(str text):
    try:
        return uuid.UUID(text).bytes
    except ValueError as error:
        raise invalid('uuid', text, 'a uuid, such as 8-4-4-4-12 hexadecimal digits') from error


cdef Values _varint(object array):
    cdef Py_ssize_t i, count = len(array), offset = array.offset
    cdef int size, j
    cdef int64_t value
    cdef Values made = _values(count)
    buffers = array.buffers()
    cdef const uint8_t* valid = _address(buffers[0])
    cdef const int64_t* source = <const int64_t*>_address(buffers[1])
    cdef uint8_t* out = _room(made, count * 8)
    for i in range(count):
        value = source[offset + i]
        # Bits beside the sign, and the sign: as few bytes as hold them.
        size = (64 - leading_zeros(<uint64_t>(value ^ (value >> 63)) | 1) + 8) >> 3
        if value == 0 or value == -1:
            size = 1
        made.starts[i] = 8 * i
        made.lengths[i] = size if _bit(valid, offset + i) else -1
        for j in range(size):
            out[8 * i + j] = <uint8_t>(value >> (8 * (size - 1 - j)))
    return made


cdef int _put_vint(uint8_t* out, uint64_t value) noexcept nogil:
    """Writes an unsigned vint, whose first byte's leading ones count the bytes after it; returns its bytes."""
    cdef int size = (639 - leading_zeros(value | 1) * 9) >> 6, i
    for i in range(size - 1, -1, -1):
        out[i] = <uint8_t>value
        value >>= 8
    if size > 1:
        out[0] |= <uint8_t>~(0xff >> (size - 1))
    return size


cdef inline uint64_t _zigzag(int64_t value) noexcept nogil:
    return (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)


cdef Values _duration(object array):
    cdef Py_ssize_t i, count = len(array), offset = array.offset, at = 0
    cdef Values made = _values(count)
    cdef const uint8_t* valid = _address(array.buffers()[0])
    parts = [array.field(k) for k in range(3)]
    cdef const int32_t* months = <const int32_t*>_address(parts[0].buffers()[1]) + <Py_ssize_t>parts[0].offset
    cdef const int32_t* days = <const int32_t*>_address(parts[1].buffers()[1]) + <Py_ssize_t>parts[1].offset
    cdef const int64_t* nanoseconds = <const int64_t*>_address(parts[2].buffers()[1]) + <Py_ssize_t>parts[2].offset
    cdef uint8_t* out = _room(made, count * 27)
    if any(part.null_count for part in parts) and any(
        value is not None and None in value.values() for value in array.to_pylist()
    ):
        raise invalid('duration', None, 'months, days and nanoseconds')
    for i in range(count):
        made.starts[i], made.lengths[i] = at, -1
        if _bit(valid, offset + i):
            at += _put_vint(out + at, _zigzag(months[i]))
            at += _put_vint(out + at, _zigzag(days[i]))
            at += _put_vint(out + at, _zigzag(nanoseconds[i]))
            made.lengths[i] = <int32_t>(at - made.starts[i])
    return made


cdef int _check_size(int64_t size) except -1:
    if size > INT32_MAX:
        raise invalid('value', f'{size} bytes', f'at most {INT32_MAX}')
    return 0


cdef inline Py_ssize_t _put(uint8_t* out, Values values, Py_ssize_t i) noexcept nogil:
    """Writes a value after its length; returns the bytes written."""
    cdef int32_t length = values.lengths[i]
    put32(out, <uint32_t>length)
    if length <= 0:
        return 4
    memcpy(out + 4, values.data + values.starts[i], length)
    return 4 + length


cdef Values _collection(Coding coding, object array):
    """Serializes lists and sets (n, then n elements) and maps (n, then n pairs)."""
    cdef Py_ssize_t i, j, count = len(array), offset = array.offset, first, last, at = 0
    cdef int k, width = len(coding.parts)
    cdef int64_t total = 0, size
    cdef Values made = _values(count), part
    buffers = array.buffers()
    cdef const uint8_t* valid = _address(buffers[0])
    cdef const int32_t* ends = <const int32_t*>_address(buffers[1])
    first, last = (ends[offset] if count else 0), (ends[offset + count] if count else 0)
    children = [array.keys, array.items] if coding.code == MAP else [array.values]
    parts = [_encoded(part_coding, child.slice(first, last - first)) for part_coding, child in zip(coding.parts, children)]
    for i in range(count):
        made.starts[i], made.lengths[i] = total, -1
        if not _bit(valid, offset + i):
            continue
        size = 4
        for k in range(width):
            part = parts[k]
            for j in range(ends[offset + i] - first, ends[offset + i + 1] - first):
                if part.lengths[j] < 0:
                    raise invalid('collection', 'a null in it', 'values only: CQL has no null in a collection')
                size += 4 + part.lengths[j]
        _check_size(size)
        made.lengths[i] = <int32_t>size
        total += size
    cdef uint8_t* out = _room(made, total)
    for i in range(count):
        if made.lengths[i] >= 0:
            at = made.starts[i]
            put32(out + at, <uint32_t>(ends[offset + i + 1] - ends[offset + i]))
            at += 4
            for j in range(ends[offset + i] - first, ends[offset + i + 1] - first):
                for k in range(width):
                    at += _put(out + at, <Values>parts[k], j)
    return made


cdef Values _tuple(Coding coding, object array):
    """Serializes tuples and user-defined types: fields in order, each after its length."""
    cdef Py_ssize_t i, count = len(array), offset = array.offset, at
    cdef int k, width = len(coding.parts)
    cdef int64_t total = 0, size
    cdef Values made = _values(count), part
    cdef const uint8_t* valid = _address(array.buffers()[0])
    parts = [_encoded(coding.parts[k], field) for k, field in enumerate(array.flatten())]  # with the nulls of the tuples
    for i in range(count):
        made.starts[i], made.lengths[i] = total, -1
        if _bit(valid, offset + i):
            size = 0
            for k in range(width):
                part = parts[k]
                size += 4 + (part.lengths[i] if part.lengths[i] > 0 else 0)
            _check_size(size)
            made.lengths[i] = <int32_t>size
            total += size
    cdef uint8_t* out = _room(made, total)
    for i in range(count):
        if made.lengths[i] >= 0:
            at = made.starts[i]
            for k in range(width):
                at += _put(out + at, <Values>parts[k], i)
    return made


cdef Values _vector(Coding coding, object array):
    """Serializes vectors: elements in order, each after its length as a vint unless all have the same size."""
    cdef Py_ssize_t i, j, count = len(array), offset = array.offset, n = coding.length, at, first = 0
    cdef int64_t total = 0, size
    cdef Values made = _values(count)
    cdef const uint8_t* valid = _address(array.buffers()[0])
    dense = array.drop_null() if array.null_count else array  # below a null there may be anything
    cdef Values flat = _encoded(coding.parts[0], dense.values.slice(dense.offset * n, len(dense) * n))
    for i in range(count):
        made.starts[i], made.lengths[i] = total, -1
        if _bit(valid, offset + i):
            size = 0
            for j in range(first, first + n):
                if flat.lengths[j] < 0:
                    raise invalid('vector', 'a null in it', f'{n} values')
                size += flat.lengths[j] + (0 if coding.size else 9)  # a vint has nine bytes at most
            first += n
            _check_size(size)
            made.lengths[i] = <int32_t>size
            total += size
    cdef uint8_t* out = _room(made, total)
    first = 0
    for i in range(count):
        if made.lengths[i] >= 0:
            at = made.starts[i]
            for j in range(first, first + n):
                if not coding.size:
                    at += _put_vint(out + at, <uint64_t>flat.lengths[j])
                memcpy(out + at, flat.data + flat.starts[j], flat.lengths[j])
                at += flat.lengths[j]
            first += n
            made.lengths[i] = <int32_t>(at - made.starts[i])
    return made


cdef Values _python(Coding coding, object array):
    """Serializes other types in Python, value by value."""
    cdef Py_ssize_t i, count = len(array), at = 0
    cdef Values made = _values(count)
    cdef list values = [coding.encoder(value) if value else None for value in array.to_pylist()]  # '' is no value
    joined = b''.join([value for value in values if value is not None])
    made.owner, made.data = joined, <const uint8_t*>PyBytes_AS_STRING(joined)
    for i in range(count):
        made.starts[i] = at
        made.lengths[i] = -1 if values[i] is None else len(values[i])
        at += max(made.lengths[i], 0)
    return made


def packed(list columns not None):
    """Returns rows as a page of a result has them: the values of one row after the other, each after its length.

    Args:
      columns: The Values of each column.
    """
    cdef Py_ssize_t i, count = (<Values?>columns[0]).count
    cdef int64_t total = 0
    cdef Values column
    for column in columns:
        if column.count != count:
            raise invalid('columns', column.count, f'{count} values each')
        for i in range(count):
            total += 4 + (column.lengths[i] if column.lengths[i] > 0 else 0)
    made = PyBytes_FromStringAndSize(NULL, total)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(made)
    for i in range(count):
        for column in columns:
            out += _put(out, column, i)
    return made


cdef class Keys:
    """The partition keys of rows, serialized, with their Murmur3 tokens.

    Args:
      parts: The Values of the partition key's columns, in order.

    Attributes:
      tokens: The token of each row (int64, a `pyarrow.Array`).

    Raises:
      ValueError: A row lacks a part, or its key is empty or longer than 65,535 bytes.
    """

    cdef Values keys
    cdef readonly object tokens

    def __init__(self, list parts):
        cdef Py_ssize_t i, count = (<Values?>parts[0]).count
        self.keys = parts[0] if len(parts) == 1 else _composite(parts, count)
        tokens = pa.allocate_buffer(count * 8)
        cdef int64_t* out = <int64_t*>_address(tokens)
        cdef Values keys = self.keys
        for i in range(count):
            if not 0 < keys.lengths[i] <= 65535:
                got = 'nothing' if keys.lengths[i] < 0 else f'{keys.lengths[i]} bytes'
                raise invalid('partition key', got, f'from 1 to {LARGEST_KEY} bytes')
            out[i] = _token(keys.data + keys.starts[i], keys.lengths[i])
        self.tokens = pa.Array.from_buffers(pa.int64(), count, [None, tokens])

    def key(self, Py_ssize_t row):
        """Returns the serialized partition key of a row, which the driver calls a routing key."""
        return self.keys.value(row)


def salts(list parts, int count):
    """Returns the salt of each row: the CRC-32 of its serialized values, modulo a count; see cql/layout.py.

    Args:
      parts: The Values of the columns that are hashed, in order; none is null.
      count: Number of salts.

    Returns:
      A `pyarrow.Array` of int32.

    Raises:
      ValueError: A value is longer than 65,535 bytes, or a null.
    """
    cdef Py_ssize_t i, k, rows = (<Values?>parts[0]).count
    cdef Values keys = parts[0] if len(parts) == 1 else _composite(parts, rows)
    cdef uint32_t crc
    cdef const uint8_t* byte
    made = pa.allocate_buffer(rows * 4)
    cdef int32_t* out = <int32_t*>_address(made)
    for i in range(rows):
        if keys.lengths[i] < 0:
            raise invalid('salt', 'nothing', 'of a value')
        crc, byte = 0xFFFFFFFF, keys.data + keys.starts[i]
        for k in range(keys.lengths[i]):
            crc = _CRC[(crc ^ byte[k]) & 0xFF] ^ (crc >> 8)
        out[i] = <int32_t>((crc ^ 0xFFFFFFFF) % <uint32_t>count)
    return pa.Array.from_buffers(pa.int32(), rows, [None, made])


cdef uint32_t[256] _CRC


def _fill_crc():
    """Fills the table of the CRC-32 of RFC 1952: what each value of its last byte becomes."""
    cdef uint32_t crc
    cdef int i, bit
    for i in range(256):
        crc = i
        for bit in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
        _CRC[i] = crc


_fill_crc()


cdef Values _composite(list parts, Py_ssize_t count):
    """Joins the parts of keys: each after its length (16 bits), and followed by a zero byte."""
    cdef Py_ssize_t i, at
    cdef int k, width = len(parts)
    cdef int64_t total = 0, size
    cdef Values made = _values(count), part
    for i in range(count):
        size = 0
        for k in range(width):
            part = <Values?>parts[k]
            if not 0 <= part.lengths[i] <= 65535:
                got = 'nothing' if part.lengths[i] < 0 else f'{part.lengths[i]} bytes'
                raise invalid('partition key', got, f'at most {LARGEST_KEY} bytes in each column')
            size += 3 + part.lengths[i]
        _check_size(size)
        made.starts[i], made.lengths[i] = total, <int32_t>size
        total += size
    cdef uint8_t* out = _room(made, total)
    for i in range(count):
        at = made.starts[i]
        for k in range(width):
            part = parts[k]
            put16(out + at, <uint16_t>part.lengths[i])
            memcpy(out + at + 2, part.data + part.starts[i], part.lengths[i])
            at += 2 + part.lengths[i]
            out[at] = 0
            at += 1
    return made


cdef inline uint64_t _mixed(uint64_t k) noexcept nogil:
    k ^= k >> 33
    k *= 0xff51afd7ed558ccdULL
    k ^= k >> 33
    k *= 0xc4ceb9fe1a85ec53ULL
    return k ^ (k >> 33)


cdef inline uint64_t _load(const uint8_t* p) noexcept nogil:
    cdef uint64_t v
    memcpy(&v, p, 8)
    return v


cdef int64_t _token(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """The first half of MurmurHash3_x64_128 by Austin Appleby (public domain), seed 0, as Cassandra computes it: the
    bytes of the tail are signed, and the smallest token is the largest."""
    cdef uint64_t c1 = 0x87c37b91114253d5ULL, c2 = 0x4cf5ad432745937fULL, h1 = 0, h2 = 0, k1, k2
    cdef Py_ssize_t block, blocks = size >> 4, i
    cdef const uint8_t* tail = p + (blocks << 4)
    for block in range(blocks):
        k1, k2 = _load(p + 16 * block), _load(p + 16 * block + 8)
        h1 ^= rotl64(k1 * c1, 31) * c2
        h1 = (rotl64(h1, 27) + h2) * 5 + 0x52dce729
        h2 ^= rotl64(k2 * c2, 33) * c1
        h2 = (rotl64(h2, 31) + h1) * 5 + 0x38495ab5
    k1 = k2 = 0
    for i in range(size & 15):
        if i < 8:
            k1 ^= (<uint64_t><int64_t><int8_t>tail[i]) << (8 * i)
        else:
            k2 ^= (<uint64_t><int64_t><int8_t>tail[i]) << (8 * (i - 8))
    if size & 15 > 8:
        h2 ^= rotl64(k2 * c2, 33) * c1
    if size & 15:
        h1 ^= rotl64(k1 * c1, 31) * c2
    h1 ^= <uint64_t>size
    h2 ^= <uint64_t>size
    h1 += h2
    h2 += h1
    h1, h2 = _mixed(h1), _mixed(h2)
    h1 += h2
    cdef int64_t token = <int64_t>h1
    return 0x7fffffffffffffffLL if token == <int64_t>(<uint64_t>1 << 63) else token


def bodies(
    bytes query_id not None, list columns not None, absent, Keys keys not None, const int64_t[::1] order not None,
    Py_ssize_t most_bytes, Py_ssize_t most_rows, bytes end not None, uint8_t kind=1
):
    """Packs rows into the bodies of BATCH requests, each of one partition.

    Args:
      query_id: Of the prepared statement.
      columns: The Values that each row binds, in the statement's order.
      absent: For each column what a null is sent as, DELETED or UNSET.
      keys: The rows' partition keys.
      order: Numbers of the rows, those of one partition side by side.
      most_bytes: Of the values of a request's rows with their lengths; one larger row makes a request of its own.
      most_rows: Of a request.
      end: What follows the rows in a body: consistency level and flags.
      kind: The kind of batch: 1 unlogged, 2 of counters.

    Returns:
      A list of (body, place of its first row in `order`, number of its rows).
    """
    cdef Py_ssize_t count = order.shape[0], width = len(columns), first = 0, last, row, k, i, bytes_, row_bytes
    cdef Py_ssize_t head = 5 + len(query_id), finish = len(end), id_size = len(query_id)
    cdef Values key_values = keys.keys, column
    cdef list made = []
    cdef int32_t length
    cdef uint8_t* out
    cdef const uint8_t* query = <const uint8_t*>PyBytes_AS_STRING(query_id)
    if not 0 < most_rows <= 65535 or width > 65535:
        raise invalid('most_rows', most_rows, f'from 1 to {MOST_ROWS}')
    for column in columns:
        if column.count != key_values.count:
            raise invalid('columns', column.count, f'{key_values.count} values each')
    cdef int32_t* nulls = <int32_t*>malloc((width + 1) * 4)
    cdef void** parts = <void**>malloc((width + 1) * sizeof(void*))
    if nulls == NULL or parts == NULL:
        free(nulls)
        free(parts)
        raise MemoryError()
    try:
        for k in range(width):
            nulls[k], parts[k] = absent[k], <void*>columns[k]
        for i in range(count):
            if not 0 <= order[i] < key_values.count:
                raise IndexError(order[i])
        while first < count:
            last, bytes_ = first, 0
            while last < count and last - first < most_rows and _same_key(key_values, order[first], order[last]):
                row, row_bytes = order[last], 4 * width
                for k in range(width):
                    length = (<Values>parts[k]).lengths[row]
                    row_bytes += length if length > 0 else 0
                if last > first and bytes_ + row_bytes > most_bytes:
                    break
                bytes_ += row_bytes
                last += 1
            body = PyBytes_FromStringAndSize(NULL, 3 + (last - first) * head + bytes_ + finish)
            out = <uint8_t*>PyBytes_AS_STRING(body)
            out[0] = kind
            put16(out + 1, <uint16_t>(last - first))
            out += 3
            for i in range(first, last):
                row = order[i]
                out[0] = 1  # prepared
                put16(out + 1, <uint16_t>id_size)
                memcpy(out + 3, query, id_size)
                put16(out + 3 + id_size, <uint16_t>width)
                out += head
                for k in range(width):
                    if (<Values>parts[k]).lengths[row] < 0:
                        put32(out, <uint32_t>nulls[k])
                        out += 4
                    else:
                        out += _put(out, <Values>parts[k], row)
            memcpy(out, PyBytes_AS_STRING(end), finish)
            made.append((body, first, last - first))
            first = last
    finally:
        free(nulls)
        free(parts)
    return made


cdef inline bint _same_key(Values keys, Py_ssize_t one, Py_ssize_t other) noexcept nogil:
    cdef int32_t length = keys.lengths[one]
    return one == other or (
        length == keys.lengths[other]
        and memcmp(keys.data + keys.starts[one], keys.data + keys.starts[other], length) == 0
    )
