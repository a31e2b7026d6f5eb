# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The Data.db files of a table -> the cells of its rows, column by column, without a Python object per cell.

stream.h and row.h parse partitions and rows, order.h compares keys, merge.h merges what several SSTables have of a row,
and output.h lays the values out as the CQL protocol has them, for `cql.rows.decode`. Every length is checked against
the bytes that are there before a value is read.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove

from tfx_cassandra.components.cql import rows as cql_rows
from tfx_cassandra.components.errors import ReadError

cdef extern from 'merge.h':
    const int64_t NEVER
    int SLACK, DONE, FULL, FAILED

    ctypedef struct Order:
        int code, reversed, count
        int64_t dimension, fixed
        Order* parts

    ctypedef struct Column:
        int target, shape
        int64_t fixed, dropped

    ctypedef struct Columns:
        const Column* columns
        int count

    ctypedef struct Span:
        int64_t stamp

    ctypedef struct Cell:
        int64_t time

    ctypedef struct Row:
        int64_t deleted
        Span* spans
        Cell* cells

    ctypedef struct Bytes:
        int64_t size

    ctypedef struct Stream:
        int wide_times, clustering, last, index, listed, promised, placed, ended
        int64_t min_time, min_ends, min_ttl, begin, size, capacity, offset, key_size, token, partitions, rows, deleted, open, after, until, low, high, owned_count
        const int64_t* owned
        Columns statics, regulars
        const int64_t* fixed
        uint8_t* window
        uint8_t* key
        Row head, row
        Bytes* values

    ctypedef struct Merge:
        Stream** heap
        Stream** here
        Stream** tied
        Stream** moved
        int waiting, present, moving
        const Row** rows
        const Order* clustering_orders
        int64_t now
        const Stream* failed
        const char* error

    ctypedef struct Area:
        uint8_t* body
        int64_t size, capacity, row
        int32_t** starts
        int32_t** lengths
        int64_t** times

    ctypedef struct Target:
        int shape, place, time_place, ttl_place, fields, asked
        Order path_order

    ctypedef struct Group:
        const Target* targets
        int count

    ctypedef struct Parts:
        int64_t* at
        int64_t* to
        Cell* cells

    ctypedef struct Output:
        Area batch, head
        Group statics, regulars
        const int* keys
        const int* clustering
        const int* head_places
        const int* head_times
        int key_count, clustering_count, head_count, head_time_count
        int64_t head_start, rows, bytes, repeated
        Parts parts

    int64_t token_of(const uint8_t* key, int64_t size) nogil
    void push(Merge* m, Stream* s) nogil
    void release(Stream* s) nogil
    int merge(Merge* m, Output* out) nogil
    int order_of(const Order* order, Bytes a, Bytes b) nogil

_ORDERS = (
    'raw', 'signed', 'boolean', 'float', 'double', 'varint', 'decimal', 'uuid', 'timeuuid', 'listed', 'tuple', 'vector',
)
_SHAPES = ('simple', 'list', 'set', 'map', 'fields')


def token(const uint8_t[::1] key not None):
    """Returns the token of a serialized partition key, from -2^63 + 1 to 2^63 - 1."""
    return token_of(&key[0] if key.shape[0] else NULL, key.shape[0])


@cython.no_gc_clear  # its blocks are freed at its end alone
cdef class _Memory:
    """What is allocated for as long as this object lives."""

    cdef list blocks

    def __cinit__(self):
        self.blocks = []

    cdef void* zeros(self, Py_ssize_t count, size_t size) except NULL:
        cdef void* block = calloc(max(count, 1), size)
        if block == NULL:
            raise MemoryError()
        self.blocks.append(<size_t>block)
        return block

    def __dealloc__(self):
        for block in self.blocks or ():
            free(<void*><size_t>block)


cdef int _set_order(_Memory memory, Order* order, object given) except -1:
    """Sets an Order to a `types.Order`; None for values that are never compared."""
    cdef int i
    if given is None:
        return 0
    order.code, order.reversed = _ORDERS.index(given.code), given.reversed
    order.dimension, order.fixed, order.count = given.dimension, given.fixed, len(given.parts)
    order.parts = <Order*>memory.zeros(order.count, sizeof(Order))
    for i in range(order.count):
        _set_order(memory, &order.parts[i], given.parts[i])
    return 0


def compare(order, const uint8_t[::1] a not None, const uint8_t[::1] b not None):
    """Returns a number below, equal to or above 0: how Cassandra orders two serialized values of a `types.Order`."""
    cdef _Memory memory = _Memory()
    cdef Order made
    cdef Bytes first, second
    cdef Order* held = <Order*>memory.zeros(1, sizeof(Order))
    _set_order(memory, held, order)
    return _compared(held, a, b)


cdef extern from *:
    """
    #define bytes_of(at_, size_) ((Bytes){(const uint8_t *)(at_), (size_)})
    """
    Bytes bytes_of(const uint8_t* at, int64_t size) nogil


cdef int _compared(const Order* order, const uint8_t[::1] a, const uint8_t[::1] b):
    cdef int found = order_of(
        order, bytes_of(&a[0] if a.shape[0] else NULL, a.shape[0]), bytes_of(&b[0] if b.shape[0] else NULL, b.shape[0])
    )
    return (found > 0) - (found < 0)


@cython.no_gc_clear  # its end needs `memory`
cdef class Merger:
    """Merges the SSTables of one table, in the order of tokens, keys and clustering.

    Args:
      plan: What is read, as a `layout.Plan`.
      streams: What differs between the SSTables, as a `layout.Stream` each.
      feeds: For each SSTable a function that returns the next bytes of its data, uncompressed, and b'' at its end.
      now: Seconds since 1970: what has expired then is gone.
      rows: Rows of a batch at most.
      size: Bytes of a batch's values about which it is full.
    """

    cdef _Memory memory
    cdef Merge m
    cdef Output out
    cdef Stream* streams
    cdef list feeds, names
    cdef int count, places, time_places
    cdef bint running, ended

    def __init__(self, plan, streams, feeds, int64_t now, int64_t rows, int64_t size):
        cdef int i
        self.memory = _Memory()
        self.feeds, self.names, self.count = list(feeds), [stream.name for stream in streams], len(streams)
        self.places, self.time_places = plan.places, plan.time_places
        self._set_merge(plan, now)
        self._set_output(plan, rows, size)
        for i in range(self.count):
            self._set_stream(&self.streams[i], i, streams[i], plan)

    cdef int _set_merge(self, object plan, int64_t now) except -1:
        cdef Order* orders = <Order*>self.memory.zeros(len(plan.clustering_orders), sizeof(Order))
        cdef Merge* m = &self.m
        for i, order in enumerate(plan.clustering_orders):
            _set_order(self.memory, &orders[<int>i], order)
        self.streams = <Stream*>self.memory.zeros(self.count, sizeof(Stream))
        m.heap = <Stream**>self.memory.zeros(self.count, sizeof(Stream*))
        m.here = <Stream**>self.memory.zeros(self.count, sizeof(Stream*))
        m.tied = <Stream**>self.memory.zeros(self.count, sizeof(Stream*))
        m.moved = <Stream**>self.memory.zeros(self.count, sizeof(Stream*))
        m.rows = <const Row**>self.memory.zeros(self.count, sizeof(Row*))
        m.clustering_orders, m.now = orders, now
        return 0

    cdef int _set_output(self, object plan, int64_t rows, int64_t size) except -1:
        cdef Output* out = &self.out
        self._set_area(&out.batch, rows)
        self._set_area(&out.head, 1)
        self._set_group(&out.statics, plan.statics)
        self._set_group(&out.regulars, plan.regulars)
        out.keys, out.key_count = self._ints(plan.keys), len(plan.keys)
        out.clustering, out.clustering_count = self._ints(plan.clustering), len(plan.clustering)
        places = [place for place in (*plan.keys, *(target.place for target in plan.statics)) if place >= 0]
        times = [place for target in plan.statics for place in (target.time_place, target.ttl_place) if place >= 0]
        out.head_places, out.head_count = self._ints(places), len(places)
        out.head_times, out.head_time_count = self._ints(times), len(times)
        out.head_start, out.rows, out.bytes = -1, rows, size
        out.parts.at = <int64_t*>self.memory.zeros(self.count, 8)
        out.parts.to = <int64_t*>self.memory.zeros(self.count, 8)
        return 0

    cdef int* _ints(self, object numbers) except NULL:
        cdef int* made = <int*>self.memory.zeros(len(numbers), sizeof(int))
        for i, number in enumerate(numbers):
            made[<int>i] = number
        return made

    cdef int _set_area(self, Area* area, int64_t rows) except -1:
        cdef int i
        area.starts = <int32_t**>self.memory.zeros(self.places, sizeof(int32_t*))
        area.lengths = <int32_t**>self.memory.zeros(self.places, sizeof(int32_t*))
        area.times = <int64_t**>self.memory.zeros(self.time_places, sizeof(int64_t*))
        for i in range(self.places):
            area.starts[i] = <int32_t*>self.memory.zeros(rows, 4)
            area.lengths[i] = <int32_t*>self.memory.zeros(rows, 4)
        for i in range(self.time_places):
            area.times[i] = <int64_t*>self.memory.zeros(rows, 8)
        return 0

    cdef int _set_group(self, Group* group, object targets) except -1:
        cdef Target* made = <Target*>self.memory.zeros(len(targets), sizeof(Target))
        cdef int i
        for i, target in enumerate(targets):
            made[i].shape, made[i].place = _SHAPES.index(target.shape), target.place
            made[i].time_place, made[i].ttl_place = target.time_place, target.ttl_place
            made[i].fields, made[i].asked = target.fields, target.asked
            _set_order(self.memory, &made[i].path_order, target.path_order)
        group.targets, group.count = made, len(targets)
        return 0

    cdef int _set_columns(self, Columns* columns, object given) except -1:
        cdef Column* made = <Column*>self.memory.zeros(len(given), sizeof(Column))
        cdef int i
        for i, column in enumerate(given):
            made[i].target, made[i].shape = column.target, _SHAPES.index(column.shape)
            made[i].fixed, made[i].dropped = column.fixed, NEVER if column.dropped is None else column.dropped
        columns.columns, columns.count = made, len(given)
        return 0

    cdef int _set_stream(self, Stream* s, int index, object given, object plan) except -1:
        cdef int64_t* fixed = <int64_t*>self.memory.zeros(len(given.clustering), 8)
        for i, size in enumerate(given.clustering):
            fixed[<int>i] = size
        s.index, s.wide_times = index, given.wide_times
        s.min_time, s.min_ends, s.min_ttl = given.min_time, given.min_ends, given.min_ttl
        s.fixed, s.clustering = fixed, len(given.clustering)
        self._set_columns(&s.statics, given.statics)
        self._set_columns(&s.regulars, given.regulars)
        s.values = <Bytes*>self.memory.zeros(s.clustering, sizeof(Bytes))
        s.head.spans = <Span*>self.memory.zeros(len(plan.statics), sizeof(Span))
        s.row.spans = <Span*>self.memory.zeros(len(plan.regulars), sizeof(Span))
        s.head.deleted = NEVER
        s.key = <uint8_t*>self.memory.zeros(65536 + SLACK, 1)
        if given.part is None:
            return 0
        self._set_part(s, given.part)
        key = given.part.first_key
        if key is None:
            self.m.moved[self.m.moving] = s
            self.m.moving += 1
            return 0
        if len(key) > 65535:
            raise ReadError(f'{given.name}: got a first key of {len(key)} bytes, rule: at most 65535')
        memcpy(s.key, <const uint8_t*><const char*>key, len(key))
        s.key_size, s.token, s.listed, s.promised = len(key), token_of(s.key, len(key)), 1, 1
        if s.token <= s.until:
            push(&self.m, s)
        return 0

    cdef int _set_part(self, Stream* s, object part) except -1:
        cdef int64_t* owned
        s.after, s.until = part.tokens
        if part.place is not None:
            s.placed, s.offset, s.low, s.high = 1, part.place.position, part.place.low, part.place.high
        if part.owned is None:
            return 0
        owned = <int64_t*>self.memory.zeros(len(part.owned), 16)
        for i, (start, end) in enumerate(part.owned):
            owned[2 * <int>i], owned[2 * <int>i + 1] = start, end
        s.owned, s.owned_count = owned, len(part.owned)
        return 0

    def __dealloc__(self):
        cdef int i
        free(self.out.batch.body)
        free(self.out.head.body)
        free(self.out.parts.cells)
        if self.streams != NULL:
            for i in range(self.count):
                release(&self.streams[i])
                free(self.streams[i].head.cells)
                free(self.streams[i].row.cells)

    def batch(self):
        """Returns the next rows: (their number, a list of `cql.rows.Cells` by place, a list of write times by place).

        Write times are bytes of int64, microseconds since 1970, -2^63 for null; times to live, behind them, are the same in
        seconds. At the end the number is 0.

        Raises:
          ReadError: An SSTable is damaged; the message names it.
        """
        cdef int status
        if self.running:
            raise RuntimeError('Merger: got a second thread, rule: one')
        self.running = True
        try:
            while not self.ended:
                with nogil:
                    status = merge(&self.m, &self.out)
                if status >= 0:
                    self._refill(&self.streams[status])
                    continue
                if status == FAILED:
                    raise self._failure()
                self.ended = status == DONE
                break
            return self._taken()
        finally:
            self.running = False

    @property
    def counts(self):
        """For each SSTable the partitions within `tokens` that have been read, owned or not, and their rows.

        A static row counts if it is not empty.
        """
        return [(self.streams[i].partitions, self.streams[i].rows) for i in range(self.count)]

    @property
    def held(self):
        """Bytes of memory for what has been read and not yet returned."""
        cdef int64_t found = self.out.batch.capacity + self.out.head.capacity
        for i in range(self.count):
            found += self.streams[i].capacity
        return found

    cdef object _failure(self):
        what = self.m.error.decode()
        if self.m.failed == NULL:
            return ReadError(f'{", ".join(self.names[:3])}: got {what}, rule: SSTables of this table, undamaged')
        cdef const Stream* s = self.m.failed
        where = f'about byte {s.offset + s.begin} of its data'
        return ReadError(f'{self.names[s.index]}: got {what}, {where}, rule: an SSTable of this table, undamaged')

    cdef int _refill(self, Stream* s) except -1:
        """Moves what is unread to the window's start, and appends the next bytes."""
        cdef int64_t left = s.size - s.begin, wanted
        cdef uint8_t* window
        if s.last:
            where = f'at byte {s.offset + s.size} of its data'
            raise ReadError(f'{self.names[s.index]}: got an end within a partition, {where}, rule: a whole file')
        cdef const uint8_t[::1] more = self.feeds[s.index]()
        if more.shape[0] == 0:
            s.last = 1
            self.feeds[s.index] = None
            return 0
        if left:
            memmove(s.window, s.window + s.begin, left)
        s.offset, s.begin, s.size = s.offset + s.begin, 0, left
        wanted = left + more.shape[0] + SLACK
        if wanted > s.capacity:
            wanted = max(wanted, 2 * left)
            window = <uint8_t*>realloc(s.window, wanted)
            if window == NULL:
                raise ReadError(f'{self.names[s.index]}: got a row of more than {left} bytes, rule: what memory holds')
            s.window, s.capacity = window, wanted
        memcpy(s.window + left, &more[0], more.shape[0])
        s.size = left + more.shape[0]
        return 0

    cdef object _taken(self):
        cdef Area* batch = &self.out.batch
        cdef int64_t count = batch.row
        cdef int i
        body = (<char*>batch.body)[:batch.size] if batch.size else b''
        cells, times = [], []
        for i in range(self.places if count else 0):
            cells.append(cql_rows.located(body, <int32_t[:count]>batch.starts[i], <int32_t[:count]>batch.lengths[i]))
        for i in range(self.time_places if count else 0):
            times.append((<char*>batch.times[i])[:count * 8])
        for i in range(self.count):
            if self.streams[i].ended:
                self.feeds[i] = None
        batch.row = batch.size = self.out.repeated = 0
        self.out.head_start = -1
        return count, cells, times
