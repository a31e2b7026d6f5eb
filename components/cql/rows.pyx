# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The body of a ROWS result -> Arrow arrays, without a Python object per cell.

A page is cut into cells first (`cells`): for each column, where each row's value starts in the body and how long it is.
A column is then decoded by its type (`decode`), and a nested type is cut into cells of its own and decoded likewise.
Every length is checked against the body before anything is read.

The wire format is that of the CQL binary protocol, version 4 and 5 (native_protocol_v5.spec, sections 4.2.5.2 and 6).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError, ReadError

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t load16(const uint8_t* p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    static inline uint32_t load32(const uint8_t* p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    static inline uint64_t load64(const uint8_t* p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
    """
    uint16_t load16(const uint8_t* p) nogil
    uint32_t load32(const uint8_t* p) nogil
    uint64_t load64(const uint8_t* p) nogil


cdef enum Code:
    FIXED, BOOLEAN, TEXT, UUID, VARINT, DURATION, LIST, MAP, TUPLE, VECTOR, RARE


cdef class Kind:
    """How values of one CQL type are decoded; made by `types.kind_of`."""

    cdef Code code
    cdef int width
    cdef uint64_t flip
    cdef readonly object arrow
    cdef list parts
    cdef object rare

    def __init__(self, str code, object arrow, int width=0, bint flip=False, parts=(), rare=None):
        self.code = {'fixed': FIXED, 'boolean': BOOLEAN, 'text': TEXT, 'uuid': UUID, 'varint': VARINT,
                     'duration': DURATION, 'list': LIST, 'map': MAP, 'tuple': TUPLE, 'vector': VECTOR,
                     'rare': RARE}[code]
        self.arrow, self.width, self.parts, self.rare = arrow, width, list(parts), rare
        self.flip = 0x80000000 if flip else 0


cdef class Cells:
    """Where the values of one column stand in a body; a length below zero is a null."""

    cdef const uint8_t[::1] body
    cdef int32_t* starts
    cdef int32_t* lengths
    cdef Py_ssize_t count

    def __cinit__(self, const uint8_t[::1] body, Py_ssize_t count):
        self.body, self.count = body, count
        self.starts = <int32_t*>malloc((count + 1) * 8)
        if self.starts == NULL:
            raise MemoryError()
        self.lengths = self.starts + count + 1

    def __dealloc__(self):
        free(self.starts)

    def value(self, Py_ssize_t row):
        """Returns the bytes of one cell, or None for a null."""
        if not 0 <= row < self.count:
            raise IndexError(row)
        if self.lengths[row] < 0:
            return None
        return bytes(self.body[self.starts[row]:self.starts[row] + self.lengths[row]])


cdef object _damaged(str what):
    return ReadError(f'page: got {what}, rule: every length lies within the page')


def cells(const uint8_t[::1] body, Py_ssize_t offset, Py_ssize_t rows, Py_ssize_t columns):
    """Cuts the rows of a body, which begin at `offset`, into `columns` Cells of `rows` values each.

    Returns:
      (a list of Cells, sum over the rows of a 64-bit hash of the row's bytes, modulo 2^64)

    Raises:
      ReadError: A length points outside the body, or the body does not end with the last row.
    """
    cdef Py_ssize_t size = body.shape[0], at = offset, row, column, start
    cdef int32_t length
    cdef uint64_t checksum = 0
    cdef const uint8_t* p
    cdef list out = [Cells(body, rows) for _ in range(columns)]
    cdef int32_t** starts = <int32_t**>malloc((columns + 1) * sizeof(int32_t*) * 2)
    cdef int32_t** lengths = starts + columns + 1
    cdef bint bad = False
    if starts == NULL:
        raise MemoryError()
    if offset < 0 or offset > size or rows < 0:
        free(starts)
        raise _damaged(f'rows from byte {offset} of {size}')
    for column in range(columns):
        starts[column] = (<Cells>out[column]).starts
        lengths[column] = (<Cells>out[column]).lengths
    p = &body[0] if size else NULL
    with nogil:
        for row in range(rows):
            start = at
            for column in range(columns):
                if size - at < 4:
                    bad = True
                    break
                length = <int32_t>load32(p + at)
                at += 4
                starts[column][row] = <int32_t>at
                lengths[column][row] = length
                if length > 0:
                    if length > size - at:
                        bad = True
                        break
                    at += length
            if bad:
                break
            checksum += _hash(p + start, at - start)
    free(starts)
    if bad or at != size:
        raise _damaged(f'row {row} ending at byte {at} of {size}')
    return out, checksum


cdef inline uint64_t _hash(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """MurmurHash64A by Austin Appleby (public domain), seed 0."""
    cdef uint64_t m = 0xc6a4a7935bd1e995ULL, h = <uint64_t>size * m, k
    cdef Py_ssize_t i = 0
    while size - i >= 8:
        memcpy(&k, p + i, 8)
        k *= m
        k ^= k >> 47
        k *= m
        h ^= k
        h *= m
        i += 8
    if i < size:
        k = 0
        memcpy(&k, p + i, size - i)
        h ^= k
        h *= m
    h ^= h >> 47
    h *= m
    h ^= h >> 47
    return h


def decode(Kind kind, Cells cells):
    """Decodes cells as values of a kind; gives a `pyarrow.Array` of kind.arrow with one value a cell.

    Raises:
      ReadError: A value's length is not one its type can have.
      DatasetError: A varint does not fit 64 bits.
    """
    if kind.code == FIXED:
        return _fixed(kind, cells)
    if kind.code == TEXT:
        return _text(kind, cells)
    if kind.code == BOOLEAN:
        return _boolean(kind, cells)
    if kind.code == UUID:
        return _uuid(kind, cells)
    if kind.code == VARINT:
        return _varint(kind, cells)
    if kind.code == DURATION:
        return _duration(kind, cells)
    if kind.code == LIST or kind.code == MAP:
        return _collection(kind, cells)
    if kind.code == TUPLE:
        return _tuple(kind, cells)
    if kind.code == VECTOR:
        return _vector(kind, cells)
    return _rare(kind, cells)


cdef inline uint8_t* _address(object buffer):
    return <uint8_t*><uintptr_t>buffer.address


cdef object _bitmap(Cells cells, Py_ssize_t* nulls, int least):
    """Validity of cells whose length is at least `least`; None where all are valid."""
    cdef Py_ssize_t i, count = cells.count, missing = 0
    cdef uint8_t* bits
    for i in range(count):
        missing += cells.lengths[i] < least
    nulls[0] = missing
    if missing == 0:
        return None
    buffer = pa.allocate_buffer((count + 7) // 8)
    bits = _address(buffer)
    memset(bits, 0, (count + 7) // 8)
    for i in range(count):
        if cells.lengths[i] >= least:
            bits[i >> 3] |= 1 << (i & 7)
    return buffer


cdef object _fixed(Kind kind, Cells cells):
    cdef Py_ssize_t i, count = cells.count, nulls
    cdef int width = kind.width
    cdef int32_t length
    cdef bint bad = False
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    data = pa.allocate_buffer(count * width)
    cdef uint8_t* out = _address(data)
    cdef uint32_t flip = <uint32_t>kind.flip
    for i in range(count):
        length = cells.lengths[i]
        if length != width and length > 0:
            bad = True
            break
    if bad:
        raise _damaged(f'{length} bytes for a {kind.arrow}')
    with nogil:
        if width == 8:
            for i in range(count):
                (<uint64_t*>out)[i] = load64(body + cells.starts[i]) if cells.lengths[i] > 0 else 0
        elif width == 4:
            for i in range(count):
                (<uint32_t*>out)[i] = load32(body + cells.starts[i]) ^ flip if cells.lengths[i] > 0 else 0
        elif width == 2:
            for i in range(count):
                (<uint16_t*>out)[i] = load16(body + cells.starts[i]) if cells.lengths[i] > 0 else 0
        else:
            for i in range(count):
                out[i] = body[cells.starts[i]] if cells.lengths[i] > 0 else 0
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid, data], nulls)


cdef object _boolean(Kind kind, Cells cells):
    cdef Py_ssize_t i, count = cells.count, nulls
    data = pa.allocate_buffer((count + 7) // 8)
    cdef uint8_t* out = _address(data)
    memset(out, 0, (count + 7) // 8)
    for i in range(count):
        if cells.lengths[i] > 1:
            raise _damaged(f'{cells.lengths[i]} bytes for a bool')
        if cells.lengths[i] == 1 and cells.body[cells.starts[i]]:
            out[i >> 3] |= 1 << (i & 7)
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid, data], nulls)


cdef object _text(Kind kind, Cells cells):
    cdef Py_ssize_t i, count = cells.count, nulls
    cdef int64_t total = 0
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    ends = pa.allocate_buffer((count + 1) * 4)
    cdef int32_t* offsets = <int32_t*>_address(ends)
    offsets[0] = 0
    for i in range(count):
        if cells.lengths[i] > 0:
            total += cells.lengths[i]
        offsets[i + 1] = <int32_t>total
    data = pa.allocate_buffer(total)
    cdef uint8_t* out = _address(data)
    with nogil:
        for i in range(count):
            if cells.lengths[i] > 0:
                memcpy(out + offsets[i], body + cells.starts[i], cells.lengths[i])
    valid = _bitmap(cells, &nulls, 0)
    return pa.Array.from_buffers(kind.arrow, count, [valid, ends, data], nulls)


cdef object _uuid(Kind kind, Cells cells):
    cdef Py_ssize_t i, j, count = cells.count, nulls, at = 0
    cdef const uint8_t* digits = b'0123456789abcdef'
    cdef const uint8_t* value
    ends = pa.allocate_buffer((count + 1) * 4)
    cdef int32_t* offsets = <int32_t*>_address(ends)
    for i in range(count):
        if cells.lengths[i] > 0 and cells.lengths[i] != 16:
            raise _damaged(f'{cells.lengths[i]} bytes for a uuid')
        offsets[i] = <int32_t>at
        at += 36 if cells.lengths[i] > 0 else 0
    offsets[count] = <int32_t>at
    data = pa.allocate_buffer(at)
    cdef uint8_t* out = _address(data)
    for i in range(count):
        if cells.lengths[i] > 0:
            value = &cells.body[cells.starts[i]]
            for j in range(16):
                if j == 4 or j == 6 or j == 8 or j == 10:
                    out[0] = b'-'
                    out += 1
                out[0] = digits[value[j] >> 4]
                out[1] = digits[value[j] & 15]
                out += 2
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid, ends, data], nulls)


cdef object _varint(Kind kind, Cells cells):
    cdef Py_ssize_t i, j, count = cells.count, nulls
    cdef int64_t value
    cdef const uint8_t* p
    data = pa.allocate_buffer(count * 8)
    cdef int64_t* out = <int64_t*>_address(data)
    for i in range(count):
        value = 0
        if cells.lengths[i] > 0:
            p = &cells.body[cells.starts[i]]
            value = -1 if p[0] & 0x80 else 0
            if cells.lengths[i] > 8:
                # A server writes the shortest form, so more than eight bytes is more than 64 bits.
                whole = int.from_bytes(p[:cells.lengths[i]], 'big', signed=True)
                raise DatasetError(f'varint in row {i} of the page: got {whole}, rule: an integer of 64 bits')
            for j in range(cells.lengths[i]):
                value = <int64_t>((<uint64_t>value << 8) | p[j])
        out[i] = value
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid, data], nulls)


cdef int64_t _vint(const uint8_t* p, Py_ssize_t size, Py_ssize_t* at) except? -1:
    """A zig-zag vint: the first byte's leading ones count the bytes that follow."""
    cdef int extra = 0, i
    cdef uint64_t value
    if at[0] >= size:
        raise _damaged('a duration that ends early')
    while extra < 8 and p[at[0]] & (0x80 >> extra):
        extra += 1
    if size - at[0] < extra + 1:
        raise _damaged('a duration that ends early')
    value = p[at[0]] & (0xff >> extra) if extra < 8 else 0
    for i in range(extra):
        value = (value << 8) | p[at[0] + 1 + i]
    at[0] += extra + 1
    return <int64_t>((value >> 1) ^ (0 - (value & 1)))


cdef object _duration(Kind kind, Cells cells):
    cdef Py_ssize_t i, count = cells.count, nulls, at
    cdef const uint8_t* p
    buffers = [pa.allocate_buffer(count * width) for width in (4, 4, 8)]
    cdef int32_t* months = <int32_t*>_address(buffers[0])
    cdef int32_t* days = <int32_t*>_address(buffers[1])
    cdef int64_t* nanoseconds = <int64_t*>_address(buffers[2])
    for i in range(count):
        months[i] = days[i] = nanoseconds[i] = 0
        if cells.lengths[i] > 0:
            p, at = &cells.body[cells.starts[i]], 0
            months[i] = <int32_t>_vint(p, cells.lengths[i], &at)
            days[i] = <int32_t>_vint(p, cells.lengths[i], &at)
            nanoseconds[i] = _vint(p, cells.lengths[i], &at)
    valid = _bitmap(cells, &nulls, 1)
    parts = [pa.Array.from_buffers(kind.arrow.field(i).type, count, [None, buffers[i]]) for i in range(3)]
    return pa.Array.from_buffers(kind.arrow, count, [valid], nulls, children=parts)


cdef object _collection(Kind kind, Cells cells):
    """A list, set (n, then n elements) or map (n, then n keys and values); an element is a length and its bytes."""
    cdef Py_ssize_t i, j, k, count = cells.count, nulls, at, end, total = 0, filled = 0
    cdef int width = len(kind.parts)
    cdef int32_t n, length
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    ends = pa.allocate_buffer((count + 1) * 4)
    cdef int32_t* offsets = <int32_t*>_address(ends)
    for i in range(count):
        offsets[i] = <int32_t>total
        if cells.lengths[i] > 0:
            n = <int32_t>load32(body + cells.starts[i]) if cells.lengths[i] >= 4 else -1
            # Each element takes at least its length's four bytes.
            if n < 0 or <int64_t>n * width * 4 > cells.lengths[i] - 4:
                raise _damaged(f'{n} elements in a collection of {cells.lengths[i]} bytes')
            total += n
    offsets[count] = <int32_t>total
    parts = [Cells(cells.body, total) for _ in range(width)]
    for i in range(count):
        if cells.lengths[i] <= 0:
            continue
        at, end = cells.starts[i] + 4, cells.starts[i] + cells.lengths[i]
        for j in range(offsets[i + 1] - offsets[i]):
            for k in range(width):
                at = _element(body, at, end, <Cells>parts[k], filled)
            filled += 1
        if at != end:
            raise _damaged('a collection longer than its elements')
    valid = _bitmap(cells, &nulls, 1)
    arrays = [decode(part, part_cells) for part, part_cells in zip(kind.parts, parts)]
    if kind.code == MAP:
        # MapArray has no from_buffers with children; offsets with nulls say which maps are null.
        marks = pa.Array.from_buffers(pa.int32(), count + 1, [_one_more(valid, count), ends], nulls)
        return pa.MapArray.from_arrays(marks, *arrays)
    return pa.Array.from_buffers(kind.arrow, count, [valid, ends], nulls, children=arrays)


cdef object _one_more(object bitmap, Py_ssize_t count):
    """Returns a bitmap with one more bit, set, behind `count` ones."""
    if bitmap is None:
        return None
    longer = pa.allocate_buffer((count + 8) // 8)
    cdef uint8_t* bits = _address(longer)
    memset(bits, 0, (count + 8) // 8)
    memcpy(bits, _address(bitmap), (count + 7) // 8)
    bits[count >> 3] |= 1 << (count & 7)
    return longer


cdef Py_ssize_t _element(const uint8_t* body, Py_ssize_t at, Py_ssize_t end, Cells into, Py_ssize_t index) except -1:
    """Notes the element at `at`, a length and its bytes, as cell `index`; returns where the next one starts."""
    cdef int32_t length
    if end - at < 4:
        raise _damaged('an element that begins outside its value')
    length = <int32_t>load32(body + at)
    at += 4
    if length > end - at:
        raise _damaged(f'an element of {length} bytes where {end - at} are left')
    into.starts[index], into.lengths[index] = <int32_t>at, length
    return at + (length if length > 0 else 0)


cdef object _tuple(Kind kind, Cells cells):
    """A tuple or user-defined type: its fields in order; fields added to the type later may be missing at the end."""
    cdef Py_ssize_t i, k, count = cells.count, nulls, at, end
    cdef int width = len(kind.parts)
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    cdef Cells part
    parts = [Cells(cells.body, count) for _ in range(width)]
    for i in range(count):
        at, end = cells.starts[i], cells.starts[i] + max(cells.lengths[i], 0)
        for k in range(width):
            part = parts[k]
            if at == end:
                part.starts[i], part.lengths[i] = 0, -1
            else:
                at = _element(body, at, end, part, i)
        if at != end:
            raise _damaged('a tuple with more fields than its type')
    valid = _bitmap(cells, &nulls, 1)
    arrays = [decode(field, field_cells) for field, field_cells in zip(kind.parts, parts)]
    return pa.Array.from_buffers(kind.arrow, count, [valid], nulls, children=arrays)


cdef object _vector(Kind kind, Cells cells):
    """A vector of fixed-width elements: they stand one after the other without lengths."""
    cdef Py_ssize_t i, j, count = cells.count, nulls
    cdef Kind element = kind.parts[0]
    cdef Py_ssize_t n = kind.width
    cdef int size = element.width
    cdef Cells flat = Cells(cells.body, count * n)
    for i in range(count):
        if cells.lengths[i] > 0 and cells.lengths[i] != n * size:
            raise _damaged(f'{cells.lengths[i]} bytes for a vector of {n} elements')
        for j in range(n):
            flat.starts[i * n + j] = <int32_t>(cells.starts[i] + j * size)
            flat.lengths[i * n + j] = size if cells.lengths[i] > 0 else -1
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid], nulls, children=[decode(element, flat)])


cdef object _rare(Kind kind, Cells cells):
    """Other types go through the driver's own decoding, value by value."""
    cdef Py_ssize_t i
    cdef list values = []
    for i in range(cells.count):
        if cells.lengths[i] <= 0 and not (cells.lengths[i] == 0):
            values.append(None)
        else:
            values.append(bytes(cells.body[cells.starts[i]:cells.starts[i] + cells.lengths[i]]))
    return pa.array([None if value is None else kind.rare(value) for value in values], kind.arrow)
