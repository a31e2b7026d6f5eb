/* Rows and cells of one Data.db, parsed in the window of its bytes that is in memory.
 *
 * A function that needs bytes behind the window returns MORE and has changed nothing that its next call relies on. What
 * it has parsed points into the window, and holds until the stream's next item is asked for. The formats are those of
 * Cassandra's UnfilteredSerializer, Cell.Serializer and ClusteringPrefix. */
#ifndef ROW_H
#define ROW_H

#include "order.h"

enum { OK, MORE, DAMAGED };
enum { SIMPLE, LIST, SET, MAP, FIELDS }; /* the shapes of `_SHAPES` in data.pyx: how a column's parts become a value */
enum { ROW, MARKER, END };

#define NEVER INT64_MIN  /* the time of what was not written or deleted */
#define FOREVER INT64_MAX /* the end of what does not expire */
#define EXPIRED_TTL INT32_MAX

typedef struct {
  int64_t time, ends; /* microseconds since 1970; seconds since 1970, FOREVER unless deleted or expiring */
  int32_t ttl;        /* seconds, 0 for none: then `ends` is when it was deleted */
  Bytes path, value;
} Cell;

typedef struct {
  int target;      /* index in the merged table's static or regular columns; -1: of no interest */
  int shape;
  int64_t fixed;   /* bytes of each value; -1: each has a length */
  int64_t dropped; /* cells of this time and before belong to a column that was dropped; NEVER for none */
} Column;

typedef struct {
  int64_t stamp;    /* equal to the row's: the row has this column */
  int64_t deleted;  /* of a complex column: the time of its deletion */
  int64_t from, to; /* its cells */
} Span;

typedef struct {
  int64_t stamp;
  int64_t time, ends, deleted; /* of the row: written, expires, deleted */
  int32_t ttl;
  int any;      /* whether a column was read, of interest or not */
  Span *spans; /* by target */
  Cell *cells;
  int64_t count, capacity;
} Row;

typedef struct {
  const Column *columns;
  int count;
} Columns;

typedef struct {
  /* What does not change. */
  int wide_times; /* deletion times of versions oa and da: unsigned */
  int64_t min_time, min_ends, min_ttl;
  Columns statics, regulars;
  int clustering;             /* number of clustering columns */
  const int64_t *fixed;       /* of each, as Column.fixed */
  /* The window. */
  uint8_t *window;
  int64_t begin, size, capacity, offset; /* offset: of window[0] in the file */
  int last;                              /* whether nothing follows the window */
  /* Its place in the merge. */
  int index;
  int listed; /* whether key and token are those that the SSTable's other files have, and nothing has been read */
  int promised; /* whether they were */
  int placed;   /* whether the token of the first partition is that of an index, between low and high */
  int64_t low, high;
  /* What is read of it: partitions whose token is above `after`, up to `until`, and in one of the `owned` ranges. */
  int64_t after, until;
  const int64_t *owned; /* starts and ends of ranges (start, end], in order; NULL: all */
  int64_t owned_count;
  int begun, passing, ended; /* whether a partition has been read; is passed over; no other follows */
  int stale;  /* whether the item has been used */
  /* The partition. */
  uint8_t *key;
  int64_t key_size, token, partitions, rows;
  int64_t deleted, open; /* times of the partition's deletion and of the range tombstone that is open */
  Row head;              /* static */
  /* The item. */
  int kind, bound;
  int64_t opened; /* of a marker: the time of the range tombstone that is open after it */
  int64_t prefix; /* number of clustering values */
  Bytes *values;
  Row row;
  const char *error;
} Stream;

#define CHECK(condition, message) \
  do {                            \
    if (!(condition)) {           \
      s->error = (message);       \
      return DAMAGED;             \
    }                             \
  } while (0)
#define TAKE(condition) \
  do {                  \
    if (!(condition)) return MORE; \
  } while (0)
#define BODY(condition) CHECK(condition, "a row that ends outside its size")

static int64_t time_of(const Stream *s, uint64_t delta) { return (int64_t)((uint64_t)s->min_time + delta); }

/* Seconds of a deletion or expiry; -1 for none that is valid. */
static int64_t ends_of(const Stream *s, uint64_t delta) {
  const uint64_t found = (uint64_t)s->min_ends + delta;
  if (s->wide_times) return (int64_t)(uint32_t)found;
  return found <= INT32_MAX ? (int64_t)found : -1;
}

/* Reads a value of a type whose values have `fixed` bytes, or a length before them. */
static int read_value(const uint8_t **at, const uint8_t *end, int64_t fixed, Bytes *value) {
  uint64_t size = (uint64_t)fixed;
  if (fixed < 0 && !read_vint(at, end, &size)) return 0;
  if (size > (uint64_t)(end - *at)) return 0;
  *value = (Bytes){*at, (int64_t)size};
  *at += size;
  return 1;
}

/* Reads clustering values: for 32 of them two bits each (empty, null), then those that are neither. */
static int read_clustering(const Stream *s, const uint8_t **at, const uint8_t *end, int64_t count, Bytes *values) {
  uint64_t bits = 0;
  for (int64_t i = 0; i < count; i++) {
    if (i % 32 == 0 && !read_vint(at, end, &bits)) return 0;
    const int empty = bits >> (2 * (i % 32)) & 1, null = bits >> (2 * (i % 32) + 1) & 1;
    if (null || empty) values[i] = (Bytes){*at, null ? -1 : 0};
    else if (!read_value(at, end, s->fixed[i], &values[i])) return 0;
  }
  return 1;
}

static int grow(Stream *s, Row *row) {
  if (row->count < row->capacity) return OK;
  const int64_t wanted = row->capacity ? row->capacity * 2 : 64;
  Cell *cells = realloc(row->cells, (size_t)wanted * sizeof(Cell));
  CHECK(cells, "more cells in a row than memory holds");
  row->cells = cells, row->capacity = wanted;
  return OK;
}

/* Reads a cell of a row's body into the row's next place, which is not counted yet. */
static int read_cell(Stream *s, Row *row, const Column *column, const uint8_t **at, const uint8_t *end) {
  uint64_t n;
  if (grow(s, row)) return DAMAGED;
  Cell *cell = &row->cells[row->count];
  BODY(*at < end);
  const int flags = *(*at)++, deleted = flags & 1, expiring = flags & 2, own_ttl = !(flags & 0x10);
  CHECK(flags < 0x20 && !(deleted && expiring), "a cell with unknown flags");
  cell->time = row->time, cell->ends = FOREVER, cell->ttl = 0;
  if (!(flags & 8)) {
    BODY(read_vint(at, end, &n));
    cell->time = time_of(s, n);
  }
  if (expiring && !own_ttl) cell->ends = row->ends, cell->ttl = row->ttl;
  else if (deleted || expiring) {
    BODY(read_vint(at, end, &n));
    cell->ends = ends_of(s, n);
  }
  if (expiring && own_ttl) {
    BODY(read_vint(at, end, &n));
    CHECK(n <= INT32_MAX && s->min_ttl + (int64_t)n <= INT32_MAX, "a time to live beyond 32 bits");
    cell->ttl = (int32_t)(s->min_ttl + (int64_t)n);
  }
  CHECK(cell->ends >= 0, "a deletion time below zero");
  cell->path = cell->value = (Bytes){*at, 0};
  if (column->shape != SIMPLE) BODY(read_value(at, end, -1, &cell->path));
  if (!(flags & 4)) BODY(read_value(at, end, column->fixed, &cell->value));
  return OK;
}

static int read_deletion(Stream *s, const uint8_t **at, const uint8_t *end, int64_t *time) {
  uint64_t n, ends;
  BODY(read_vint(at, end, &n) && read_vint(at, end, &ends));
  *time = time_of(s, n);
  return OK;
}

static int read_column(Stream *s, Row *row, const Column *column, int deletions, const uint8_t **at, const uint8_t *end) {
  uint64_t count = 1;
  int64_t deleted = NEVER;
  const int64_t from = row->count;
  row->any = 1;
  if (column->shape != SIMPLE) {
    if (deletions && read_deletion(s, at, end, &deleted)) return DAMAGED;
    BODY(read_vint(at, end, &count) && count <= (uint64_t)(end - *at));
  }
  for (; count; count--) {
    if (read_cell(s, row, column, at, end)) return DAMAGED;
    row->count += column->target >= 0 && row->cells[row->count].time > column->dropped;
  }
  if (column->target >= 0) row->spans[column->target] = (Span){row->stamp, deleted, from, row->count};
  return OK;
}

/* Reads the columns that a row has: all, or all but those of a bitmap (below 64 columns) or of a list. */
static int read_columns(Stream *s, Row *row, Columns columns, int flags, const uint8_t **at, const uint8_t *end) {
  uint64_t missing = 0, next = 0;
  const int deletions = flags & 0x40, many = columns.count >= 64;
  if (!(flags & 0x20)) BODY(read_vint(at, end, &missing));
  CHECK(many ? missing <= (uint64_t)columns.count : missing >> columns.count == 0, "a row with unknown columns");
  if (!many || !missing) { /* of many none is missing, so the bitmap is not shifted beyond its width */
    for (int i = 0; i < columns.count; i++)
      if (!(missing && missing >> i & 1) && read_column(s, row, &columns.columns[i], deletions, at, end)) return DAMAGED;
    return OK;
  }
  /* The list, which comes before all cells, names the columns that are there or those that are not: the fewer. */
  const int there = columns.count - (int)missing < columns.count / 2;
  int64_t left = there ? columns.count - (int64_t)missing : (int64_t)missing;
  const uint8_t *list = *at;
  for (int64_t i = 0; i < left; i++) BODY(read_vint(at, end, &next));
  const uint8_t *const list_end = *at;
  if (left) read_vint(&list, list_end, &next);
  for (int i = 0; i < columns.count; i++) {
    const int named = left && next == (uint64_t)i;
    if (named && --left) {
      read_vint(&list, list_end, &next);
      CHECK(next > (uint64_t)i, "a row with its columns out of order");
    }
    if (named == there && read_column(s, row, &columns.columns[i], deletions, at, end)) return DAMAGED;
  }
  CHECK(!left, "a row with unknown columns");
  return OK;
}

/* Reads a row behind its flags and clustering; MORE where its size reaches behind the window. */
static int read_row(Stream *s, Row *row, Columns columns, int flags, const uint8_t **at, const uint8_t *end) {
  uint64_t size, n;
  TAKE(read_vint(at, end, &size));
  CHECK(size <= INT32_MAX, "a row of more than 2^31 bytes");
  TAKE(size <= (uint64_t)(end - *at));
  end = *at + size;
  BODY(read_vint(at, end, &n)); /* the size of the previous item */
  row->stamp++;
  row->count = 0;
  row->time = row->deleted = NEVER;
  row->ends = FOREVER, row->ttl = row->any = 0;
  if (flags & 4) {
    BODY(read_vint(at, end, &n));
    row->time = time_of(s, n);
    if (flags & 8) {
      uint64_t ends;
      BODY(read_vint(at, end, &n) && read_vint(at, end, &ends));
      CHECK(n <= INT32_MAX && s->min_ttl + (int64_t)n <= INT32_MAX, "a time to live beyond 32 bits");
      row->ttl = (int32_t)(s->min_ttl + (int64_t)n);
      row->ends = ends_of(s, ends);
      CHECK(row->ends >= 0, "an end of a row's life below zero");
    }
  }
  if (flags & 0x10 && read_deletion(s, at, end, &row->deleted)) return DAMAGED;
  if (read_columns(s, row, columns, flags, at, end)) return DAMAGED;
  CHECK(*at == end, "a row that ends within its size");
  return OK;
}

#endif
