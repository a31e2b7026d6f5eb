# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The body of a ROWS result -> Arrow arrays, without a Python object per cell.

First a page is cut into cells (`cells`): for each column, where each row's value starts in the body and how long it is.
Then a column is decoded by its type (`decode`); a nested type is cut into cells of its own, which are decoded the same
way. Every length is checked against the body before a value is read, and every value against its type before it is
returned: users of the arrays rely on both.

The wire format is that of the CQL binary protocol, version 4 and 5 (native_protocol_v5.spec, sections 4.2.5.2 and 6).
"""

from decimal import Decimal

from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError, ReadError, invalid

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t load16(const uint8_t* p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    static inline uint32_t load32(const uint8_t* p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    static inline void store32(uint8_t* p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
    static inline uint64_t load64(const uint8_t* p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
    """
    uint16_t load16(const uint8_t* p) nogil
    uint32_t load32(const uint8_t* p) nogil
    void store32(uint8_t* p, uint32_t value) nogil
    uint64_t load64(const uint8_t* p) nogil

cdef extern from 'utf8.h':
    void utf8_init()
    int64_t first_bad_text(const uint8_t* data, const int32_t* offsets, int64_t count, bint ascii_only) noexcept nogil

utf8_init()

LARGEST = INT32_MAX  # bytes of a page, as the protocol counts them; also the values of an Arrow array here
LARGEST_VARINT = 1 << 14  # bytes of a varint that is read as text: 39,457 digits
_WITHIN = 'every length lies within the page'
_SHOWN = 40  # bytes of a value in an error at most


cdef enum Code:
    FIXED, BOOLEAN, BLOB, TEXT, UUID, VARINT, DIGITS, DURATION, LIST, MAP, TUPLE, VECTOR, PYTHON


_CODES = {
    'fixed': FIXED, 'boolean': BOOLEAN, 'blob': BLOB, 'text': TEXT, 'uuid': UUID, 'varint': VARINT, 'digits': DIGITS,
    'duration': DURATION, 'list': LIST, 'map': MAP, 'tuple': TUPLE, 'vector': VECTOR, 'python': PYTHON,
}


cdef class Kind:
    """How to decode values of one CQL type; created by `types.kind_of`.

    Args:
      code: The layout of a value: a key of _CODES.
      arrow: Arrow type of the array.
      parts: Kinds of a nested type's parts.
      flip: Whether the sign bit of a fixed-width value is inverted.
      length: Number of elements of a vector.
      size: Bytes of each element of a vector; 0 if each has a length of its own.
      codec: Encoding of text, 'ascii' or 'utf-8'.
      replace: Whether U+FFFD replaces bytes that are invalid in this encoding.
      decoder: Decodes a value of another type in Python.
    """

    cdef Code code
    cdef int width, size
    cdef int32_t length
    cdef uint32_t flip
    cdef bint replace
    cdef readonly object arrow
    cdef list parts
    cdef str codec
    cdef object decoder

    def __init__(
        self, str code, object arrow, parts=(), bint flip=False, int32_t length=0, int size=0, str codec='utf-8',
        bint replace=False, decoder=None,
    ):
        self.code, self.arrow, self.parts = _CODES[code], arrow, list(parts)
        self.width = arrow.bit_width // 8 if self.code == FIXED else 0
        self.flip = 0x80000000 if flip else 0
        self.length, self.size, self.codec, self.replace, self.decoder = length, size, codec, replace, decoder


cdef class Cells:
    """The offsets and lengths of one column's values in a body, created by `cells`; a negative length is a null."""

    cdef const uint8_t[::1] body
    cdef int32_t* starts
    cdef int32_t* lengths
    cdef Py_ssize_t count

    def __init__(self):
        raise TypeError('Cells: got a call, rule: made by cells')

    def __dealloc__(self):
        free(self.starts)

    def value(self, Py_ssize_t row):
        """Returns the bytes of one cell, or None for a null."""
        if not 0 <= row < self.count:
            raise IndexError(row)
        if self.lengths[row] < 0:
            return None
        return bytes(self.body[self.starts[row]:self.starts[row] + self.lengths[row]])

    def only(self, Py_ssize_t row):
        """Returns Cells with the value of one row only."""
        if not 0 <= row < self.count:
            raise IndexError(row)
        cdef Cells single = _cells(self.body, 1)
        single.starts[0], single.lengths[0] = self.starts[row], self.lengths[row]
        return single


cdef Cells _cells(const uint8_t[::1] body, Py_ssize_t count):
    """Returns Cells whose values are still to be set."""
    if count > LARGEST:
        raise _damaged(f'{count} values of one type', f'at most {LARGEST}')
    cdef Cells made = Cells.__new__(Cells)
    made.body, made.count = body, count
    made.starts = <int32_t*>malloc((count + 1) * 8)
    if made.starts == NULL:
        raise MemoryError()
    made.lengths = made.starts + count + 1
    return made


cdef object _damaged(str what, str rule=_WITHIN):
    return ReadError(f'value: got {what}, rule: {rule}')


cdef object _damaged_page(str what, str rule=_WITHIN):
    return ReadError(f'page: got {what}, rule: {rule}')


def cells(const uint8_t[::1] body not None, Py_ssize_t offset, Py_ssize_t rows, Py_ssize_t columns):
    """Cuts the rows of a body, which begin at `offset`, into `columns` Cells of `rows` values each.

    Returns:
      (a list of Cells, sum over the rows of a 64-bit hash of the row's bytes, modulo 2^64)

    Raises:
      ReadError: A length points outside the body, or the body does not end with the last row.
    """
    cdef Py_ssize_t size = body.shape[0], at = offset, row = 0, column, start
    cdef int32_t length
    cdef uint64_t checksum = 0
    cdef const uint8_t* p
    if size > LARGEST:
        raise _damaged_page(f'{size} bytes', f'at most {LARGEST}')
    # A value takes at least four bytes, its length: so no more memory is allocated than the body can need.
    if not 0 <= offset <= size or columns < 0 or not 0 <= rows <= (size - offset) // (4 * max(columns, 1)):
        raise _damaged_page(f'{rows} rows of {columns} columns from byte {offset} of {size}')
    cdef list out = [_cells(body, rows) for _ in range(columns)]
    cdef int32_t** starts = <int32_t**>malloc((columns + 1) * sizeof(int32_t*) * 2)
    cdef int32_t** lengths = starts + columns + 1
    cdef bint bad = False
    if starts == NULL:
        raise MemoryError()
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
        raise _damaged_page(f'row {row} ending at byte {at} of {size}')
    return out, checksum


def located(const uint8_t[::1] body not None, const int32_t[::1] starts not None, const int32_t[::1] lengths not None):
    """Returns Cells whose values start at `starts` in a body and have `lengths` bytes; a negative length is a null.

    Values may overlap.

    Raises:
      ReadError: A value reaches outside the body, or the values have more than 2^31 - 1 bytes together.
    """
    cdef Py_ssize_t i, count = starts.shape[0], size = body.shape[0]
    cdef int64_t total = 0
    cdef bint bad = False
    if lengths.shape[0] != count or size > LARGEST:
        raise _damaged_page(f'{count} starts and {lengths.shape[0]} lengths in {size} bytes')
    cdef Cells made = _cells(body, count)
    for i in range(count):
        made.starts[i], made.lengths[i] = 0, lengths[i]
        if lengths[i] > 0:
            made.starts[i] = starts[i]
            total += lengths[i]
            bad |= starts[i] < 0 or starts[i] > size - lengths[i]
    if bad or total > LARGEST:
        raise _damaged_page(f'{count} values of {total} bytes in {size} bytes', f'{_WITHIN}, at most {LARGEST} in all')
    return made


def checksum(list columns not None, const uint8_t[::1] kept=None):
    """Returns the sum over rows of a 64-bit hash of the row's bytes as a page has them, as `cells` does for a page.

    Args:
      columns: The Cells of each column, of equal numbers of rows.
      kept: For each row whether it counts, as 1 or 0; None for all rows.

    Raises:
      ReadError: The columns have different numbers of rows.
      ValueError: `kept` has another.
    """
    cdef Py_ssize_t count = (<Cells?>columns[0]).count if columns else 0, width = len(columns), row, column, size, at
    cdef Py_ssize_t capacity = 0
    cdef uint64_t total = 0
    cdef int32_t length
    cdef uint8_t* line = NULL
    cdef uint8_t* longer
    cdef bint every = kept is None, failed = False
    for found in columns:
        if (<Cells?>found).count != count:
            raise _damaged_page(f'{(<Cells>found).count} values', f'{count}, as many as there are rows')
    if not every and kept.shape[0] != count:
        raise invalid('kept', kept.shape[0], f'one of each of the {count} rows')
    # (columns of pointers to the body, the starts and the lengths)
    cdef void** places = <void**>malloc((width + 1) * sizeof(void*) * 3)
    if places == NULL:
        raise MemoryError()
    for column in range(width):
        of_column = <Cells>columns[column]
        places[column] = <void*>&(<Cells>of_column).body[0] if (<Cells>of_column).body.shape[0] else NULL
        places[width + column] = (<Cells>of_column).starts
        places[2 * width + column] = (<Cells>of_column).lengths
    with nogil:
        for row in range(count):
            if not every and not kept[row]:
                continue
            size = 4 * width
            for column in range(width):
                length = (<int32_t*>places[2 * width + column])[row]
                size += length if length > 0 else 0
            if size > capacity:
                longer = <uint8_t*>realloc(line, 2 * size)
                if longer == NULL:
                    failed = True
                    break
                line, capacity = longer, 2 * size
            at = 0
            for column in range(width):
                length = (<int32_t*>places[2 * width + column])[row]
                store32(line + at, <uint32_t>(length if length >= 0 else -1))
                at += 4
                if length > 0:
                    memcpy(line + at, <uint8_t*>places[column] + (<int32_t*>places[width + column])[row], length)
                    at += length
            total += _hash(line, size)
    free(line)
    free(places)
    if failed:
        raise MemoryError()
    return total


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
    """Decodes cells as values of a kind; returns a `pyarrow.Array` of kind.arrow with one value per cell.

    Raises:
      ReadError: A value is invalid for its type, or an Arrow array cannot hold the values.
      DatasetError: A varint does not fit into 64 bits.
      ValueError: `kind` or `cells` is None.
    """
    if kind is None or cells is None:
        raise invalid('kind, cells', (kind, cells), 'made by types.kind_of and rows.cells')
    return _decoded(kind, cells)


cdef object _decoded(Kind kind, Cells cells):
    if kind.code == FIXED:
        return _fixed(kind, cells)
    if kind.code == TEXT or kind.code == BLOB:
        return _text(kind, cells)
    if kind.code == BOOLEAN:
        return _boolean(kind, cells)
    if kind.code == UUID:
        return _uuid(kind, cells)
    if kind.code == VARINT:
        return _varint(kind, cells)
    if kind.code == DIGITS:
        return _digits(kind, cells)
    if kind.code == DURATION:
        return _duration(kind, cells)
    if kind.code == LIST or kind.code == MAP:
        return _collection(kind, cells)
    if kind.code == TUPLE:
        return _tuple(kind, cells)
    if kind.code == VECTOR:
        return _vector(kind, cells)
    return _python(kind, cells)


cdef inline uint8_t* _address(object buffer):
    return <uint8_t*><uintptr_t>buffer.address


cdef object _bitmap(Cells cells, Py_ssize_t* nulls, int min_length):
    """Returns the validity bitmap of cells, which are valid from `min_length` bytes on; None if all are valid."""
    cdef Py_ssize_t i, count = cells.count, missing = 0
    cdef uint8_t* bits
    for i in range(count):
        missing += cells.lengths[i] < min_length
    nulls[0] = missing
    if missing == 0:
        return None
    buffer = pa.allocate_buffer((count + 7) // 8)
    bits = _address(buffer)
    memset(bits, 0, (count + 7) // 8)
    for i in range(count):
        if cells.lengths[i] >= min_length:
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
    cdef uint32_t flip = kind.flip
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
    cdef int64_t total = 0, bad = -1
    cdef bint checked = kind.code == TEXT, ascii_only = kind.codec == 'ascii'
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    ends = pa.allocate_buffer((count + 1) * 4)
    cdef int32_t* offsets = <int32_t*>_address(ends)
    offsets[0] = 0
    for i in range(count):  # the sum fits, since the values do not overlap in the body
        if cells.lengths[i] > 0:
            total += cells.lengths[i]
        offsets[i + 1] = <int32_t>total
    data = pa.allocate_buffer(total)
    cdef uint8_t* out = _address(data)
    with nogil:
        for i in range(count):
            if cells.lengths[i] > 0:
                memcpy(out + offsets[i], body + cells.starts[i], cells.lengths[i])
        if checked:
            bad = first_bad_text(out, offsets, count, ascii_only)
    if bad >= 0:
        if kind.replace:
            values = [cells.value(i) for i in range(count)]
            return pa.array([v if v is None else v.decode(kind.codec, 'replace') for v in values], kind.arrow)
        raise _bad_text(cells.value(bad), kind.codec)
    valid = _bitmap(cells, &nulls, 0)
    return pa.Array.from_buffers(kind.arrow, count, [valid, ends, data], nulls)


cdef object _bad_text(bytes value, str codec):
    try:
        value.decode(codec)
    except UnicodeDecodeError as error:
        shown = value[max(0, error.start - _SHOWN // 2):error.start + _SHOWN // 2]
        rule = f"{codec.upper()} (invalid_text='replace' reads U+FFFD for what is not)"
        return ReadError(f'text: got {shown!r} about byte {error.start} of {len(value)}, rule: {rule}')


cdef object _uuid(Kind kind, Cells cells):
    cdef Py_ssize_t i, j, count = cells.count, nulls, at = 0
    cdef const uint8_t* digits = b'0123456789abcdef'
    cdef const uint8_t* value
    ends = pa.allocate_buffer((count + 1) * 4)
    cdef int32_t* offsets = <int32_t*>_address(ends)
    if count * 36 > LARGEST:
        raise _damaged(f'{count} uuids', f'at most {LARGEST} bytes of text')
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


cdef Py_ssize_t _shortest(const uint8_t* p, Py_ssize_t size) noexcept:
    """Returns the number of leading bytes of a varint that only repeat the sign of the next byte."""
    cdef Py_ssize_t skipped = 0
    while size - skipped > 1 and p[skipped] == (0xff if p[skipped + 1] & 0x80 else 0):
        skipped += 1
    return skipped


cdef object _varint(Kind kind, Cells cells):
    cdef Py_ssize_t i, j, first, count = cells.count, nulls
    cdef int64_t value
    cdef const uint8_t* p
    data = pa.allocate_buffer(count * 8)
    cdef int64_t* out = <int64_t*>_address(data)
    for i in range(count):
        value = 0
        if cells.lengths[i] > 0:
            p = &cells.body[cells.starts[i]]
            value = -1 if p[0] & 0x80 else 0
            # A varint is stored as it was written, which need not be its shortest form.
            first = _shortest(p, cells.lengths[i]) if cells.lengths[i] > 8 else 0
            if cells.lengths[i] - first > 8:
                rule = "an integer of 64 bits (wide_varints='text' reads varints as decimal text)"
                raise DatasetError(f'varint: got {_number(cells.value(i)[first:])}, rule: {rule}')
            for j in range(first, cells.lengths[i]):
                value = <int64_t>((<uint64_t>value << 8) | p[j])
        out[i] = value
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid, data], nulls)


cdef object _number(bytes value):
    """Returns a varint as shown in an error."""
    if len(value) > _SHOWN:
        return f'an integer of {len(value)} bytes'
    return int.from_bytes(value, 'big', signed=True)


cdef object _digits(Kind kind, Cells cells):
    """Decodes varints as decimal text."""
    cdef Py_ssize_t i
    cdef list texts = []
    for i in range(cells.count):
        if cells.lengths[i] <= 0:
            texts.append(None)
            continue
        if cells.lengths[i] > LARGEST_VARINT:
            raise DatasetError(f'varint: got {cells.lengths[i]} bytes, rule: at most {LARGEST_VARINT}')
        number = int.from_bytes(cells.value(i), 'big', signed=True)
        # Python refuses to convert integers of more than 4,300 digits to text; through Decimal it is exact.
        texts.append(str(number) if cells.lengths[i] <= 1024 else str(Decimal(number)))
    return pa.array(texts, kind.arrow)


cdef int _vint(const uint8_t* p, Py_ssize_t end, Py_ssize_t* at, uint64_t* value) except -1:
    """Reads an unsigned vint at `at`: the leading ones of its first byte count the bytes that follow."""
    cdef int extra = 0, i
    if at[0] >= end:
        raise _damaged('a vint that begins outside its value')
    while extra < 8 and p[at[0]] & (0x80 >> extra):
        extra += 1
    if end - at[0] < extra + 1:
        raise _damaged('a vint that ends outside its value')
    value[0] = p[at[0]] & (0xff >> extra) if extra < 8 else 0
    for i in range(extra):
        value[0] = (value[0] << 8) | p[at[0] + 1 + i]
    at[0] += extra + 1
    return 0


cdef int64_t _zigzag(const uint8_t* p, Py_ssize_t end, Py_ssize_t* at, int64_t largest) except? -1:
    """Reads a signed vint at `at`, from -largest - 1 to largest."""
    cdef uint64_t value
    _vint(p, end, at, &value)
    if value >> 1 > <uint64_t>largest:
        raise _damaged(f'{value >> 1} in a duration', f'at most {largest}')
    return <int64_t>((value >> 1) ^ (0 - (value & 1)))


cdef object _duration(Kind kind, Cells cells):
    cdef Py_ssize_t i, count = cells.count, nulls, at, end
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    buffers = [pa.allocate_buffer(count * width) for width in (4, 4, 8)]
    cdef int32_t* months = <int32_t*>_address(buffers[0])
    cdef int32_t* days = <int32_t*>_address(buffers[1])
    cdef int64_t* nanoseconds = <int64_t*>_address(buffers[2])
    for i in range(count):
        months[i] = days[i] = nanoseconds[i] = 0
        if cells.lengths[i] > 0:
            at, end = cells.starts[i], cells.starts[i] + cells.lengths[i]
            months[i] = <int32_t>_zigzag(body, end, &at, INT32_MAX)
            days[i] = <int32_t>_zigzag(body, end, &at, INT32_MAX)
            nanoseconds[i] = _zigzag(body, end, &at, INT64_MAX)
            if at != end:
                raise _damaged('a duration longer than its three numbers')
    valid = _bitmap(cells, &nulls, 1)
    parts = [pa.Array.from_buffers(kind.arrow.field(i).type, count, [None, buffers[i]]) for i in range(3)]
    return pa.Array.from_buffers(kind.arrow, count, [valid], nulls, children=parts)


cdef object _collection(Kind kind, Cells cells):
    """Decodes lists, sets (n, then n elements) and maps (n, then n pairs); an element is a length and its bytes."""
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
            # Each element takes at least four bytes, its length.
            if n < 0 or <int64_t>n * width * 4 > cells.lengths[i] - 4:
                raise _damaged(f'{n} elements in a collection of {cells.lengths[i]} bytes')
            total += n
    offsets[count] = <int32_t>total
    parts = [_cells(cells.body, total) for _ in range(width)]
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
    arrays = [_decoded(part, part_cells) for part, part_cells in zip(kind.parts, parts)]
    if kind.code == MAP:
        if arrays[0].null_count:
            raise ReadError('map: got a key that is null or empty, rule: a value, as Arrow has it for the keys of maps')
        # MapArray.from_buffers takes no children; null offsets mark null maps.
        offset_array = pa.Array.from_buffers(pa.int32(), count + 1, [_with_set_bit(valid, count), ends], nulls)
        return pa.MapArray.from_arrays(offset_array, *arrays)
    return pa.Array.from_buffers(kind.arrow, count, [valid, ends], nulls, children=arrays)


cdef object _with_set_bit(object bitmap, Py_ssize_t count):
    """Returns a bitmap of `count` bits with one more bit, which is set."""
    if bitmap is None:
        return None
    longer = pa.allocate_buffer((count + 8) // 8)
    cdef uint8_t* bits = _address(longer)
    memset(bits, 0, (count + 8) // 8)
    memcpy(bits, _address(bitmap), (count + 7) // 8)
    bits[count >> 3] |= 1 << (count & 7)
    return longer


cdef Py_ssize_t _element(const uint8_t* body, Py_ssize_t at, Py_ssize_t end, Cells into, Py_ssize_t index) except -1:
    """Sets cell `index` to the element at `at`, a length and its bytes; returns where the next element starts."""
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
    """Decodes tuples and user-defined types: fields in order; fields added to the type later may be missing."""
    cdef Py_ssize_t i, k, count = cells.count, nulls, at, end
    cdef int width = len(kind.parts)
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    cdef Cells part
    parts = [_cells(cells.body, count) for _ in range(width)]
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
    arrays = [_decoded(field, field_cells) for field, field_cells in zip(kind.parts, parts)]
    return pa.Array.from_buffers(kind.arrow, count, [valid], nulls, children=arrays)


cdef object _vector(Kind kind, Cells cells):
    """Decodes vectors: elements in order, each preceded by its length as a vint unless all have the same size."""
    cdef Py_ssize_t i, j, count = cells.count, nulls, at, end
    cdef Py_ssize_t n = kind.length, size = kind.size
    cdef uint64_t length
    cdef const uint8_t* body = &cells.body[0] if cells.body.shape[0] else NULL
    cdef Cells flat = _cells(cells.body, count * n)
    cdef int32_t* starts
    cdef int32_t* lengths
    for i in range(count):
        at, end = cells.starts[i], cells.starts[i] + cells.lengths[i]
        starts, lengths = flat.starts + i * n, flat.lengths + i * n
        if cells.lengths[i] <= 0:
            for j in range(n):
                starts[j], lengths[j] = 0, -1
        elif size:
            if end - at != n * size:
                raise _damaged(f'{end - at} bytes for a vector of {n} elements')
            for j in range(n):
                starts[j], lengths[j] = <int32_t>(at + j * size), <int32_t>size
        else:
            for j in range(n):
                _vint(body, end, &at, &length)
                if length > <uint64_t>(end - at):
                    raise _damaged(f'an element of {length} bytes where {end - at} are left')
                starts[j], lengths[j] = <int32_t>at, <int32_t>length
                at += <Py_ssize_t>length
            if at != end:
                raise _damaged('a vector longer than its elements')
    valid = _bitmap(cells, &nulls, 1)
    return pa.Array.from_buffers(kind.arrow, count, [valid], nulls, children=[_decoded(kind.parts[0], flat)])


cdef object _python(Kind kind, Cells cells):
    """Decodes other types in Python, value by value."""
    values = [cells.value(i) for i in range(cells.count)]
    return pa.array([None if value is None else kind.decoder(value) for value in values], kind.arrow)
