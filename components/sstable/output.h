/* The cells of merged rows, column by column: where in a body each row's value starts, and how long it is.
 *
 * Values have the bytes that the CQL protocol has (native_protocol_v5.spec, section 6). */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "stream.h"

static const Bytes NULL_VALUE = {NULL, -1};

typedef struct {
  uint8_t *body;
  int64_t size, capacity;
  int32_t **starts, **lengths; /* by place, then by row; a length of -1: null */
  int64_t **times;             /* write times and times to live by place, then by row; NEVER: null */
  int64_t row;
} Area;

typedef struct {
  int shape, place, time_place, ttl_place; /* places in an Area; -1: not asked for */
  int fields;                              /* of a user-defined type */
  int asked;                               /* whether the server takes it for a column that was asked for */
  Order path_order;
} Target;

typedef struct {
  const Target *targets;
  int count;
} Group;

typedef struct {
  int64_t *at, *to; /* by stream: its cells that are still to be merged */
  Cell *cells;      /* merged */
  int64_t count, capacity;
} Parts;

typedef struct {
  Area batch, head;        /* head: of one row, the partition's key and static columns */
  Group statics, regulars;
  const int *keys, *clustering; /* places of the columns of the partition key and of the clustering; -1: not asked for */
  int key_count, clustering_count;
  const int *head_places, *head_times; /* places that come from the head */
  int head_count, head_time_count;
  int64_t head_start;      /* where the head stands in the batch's body; -1: not yet */
  int64_t rows, bytes;     /* a batch is full with so many rows, or bytes of values */
  int64_t repeated;        /* bytes of the heads' values, once more for each row */
  Parts parts;
  const char *error;
} Output;

#define SLACK 16 /* bytes behind a body and a window, so that short values can be copied as 16 bytes */

/* Makes room for `size` bytes more; returns 0 with an error where there is none. */
static int reserve(Output *out, Area *area, int64_t size) {
  const int64_t wanted = area->size + size + SLACK;
  if (wanted <= area->capacity) return 1;
  if (wanted > INT32_MAX) {
    out->error = "a row of more than 2^31 bytes";
    return 0;
  }
  int64_t capacity = wanted * 2 < 1 << 16 ? 1 << 16 : wanted * 2;
  uint8_t *body = realloc(area->body, (size_t)capacity);
  if (!body) {
    out->error = "more bytes in a batch than memory holds";
    return 0;
  }
  area->body = body, area->capacity = capacity;
  return 1;
}

static int put_bytes(Output *out, Area *area, const uint8_t *bytes, int64_t size) {
  if (!reserve(out, area, size)) return 0;
  if (size <= SLACK) memcpy(area->body + area->size, bytes, SLACK);
  else memcpy(area->body + area->size, bytes, (size_t)size);
  area->size += size;
  return 1;
}

static int put_length(Output *out, Area *area, int64_t length) {
  uint8_t bytes[SLACK] = {0};
  const uint32_t swapped = __builtin_bswap32((uint32_t)length);
  memcpy(bytes, &swapped, 4);
  return put_bytes(out, area, bytes, 4);
}

static int put_value(Output *out, Area *area, int place, Bytes value) {
  area->starts[place][area->row] = (int32_t)area->size;
  area->lengths[place][area->row] = (int32_t)value.size;
  return value.size <= 0 || put_bytes(out, area, value.at, value.size);
}

/* Writes a value with its length, as within a collection. */
static int put_part(Output *out, Area *area, Bytes value) {
  return put_length(out, area, value.size) && (value.size <= 0 || put_bytes(out, area, value.at, value.size));
}

static int put_fields(Output *out, Area *area, int fields, const Parts *parts) {
  int64_t next = 0;
  for (int i = 0; i < fields; i++) {
    const Cell *cell = next < parts->count ? &parts->cells[next] : NULL;
    const int named = cell && cell->path.size == 2 && load16(cell->path.at) == i;
    if (!put_part(out, area, named ? cell->value : NULL_VALUE)) return 0;
    next += named;
  }
  if (next < parts->count) out->error = "a field that its user-defined type lacks";
  return next == parts->count;
}

/* Writes the merged cells of a complex column as one value; none: null. */
static int put_parts(Output *out, Area *area, const Target *target, const Parts *parts) {
  const int64_t start = area->size;
  if (!parts->count) return put_value(out, area, target->place, NULL_VALUE);
  if (target->shape == FIELDS) {
    if (!put_fields(out, area, target->fields, parts)) return 0;
  } else {
    if (!put_length(out, area, parts->count)) return 0;
    for (int64_t i = 0; i < parts->count; i++) {
      const Cell *cell = &parts->cells[i];
      if (target->shape != LIST && !put_part(out, area, cell->path)) return 0;
      if (target->shape != SET && !put_part(out, area, cell->value)) return 0;
    }
  }
  area->starts[target->place][area->row] = (int32_t)start;
  area->lengths[target->place][area->row] = (int32_t)(area->size - start);
  return 1;
}

static int add_part(Output *out, const Cell *cell) {
  Parts *parts = &out->parts;
  if (parts->count == parts->capacity) {
    const int64_t wanted = parts->capacity ? parts->capacity * 2 : 64;
    Cell *cells = realloc(parts->cells, (size_t)wanted * sizeof(Cell));
    if (!cells) {
      out->error = "more cells in a row than memory holds";
      return 0;
    }
    parts->cells = cells, parts->capacity = wanted;
  }
  parts->cells[parts->count++] = *cell;
  return 1;
}

/* Starts the head of a partition with the columns of its key. */
static int put_key(Output *out, Bytes key) {
  Area *head = &out->head;
  head->size = 0;
  out->head_start = -1;
  for (int i = 0; i < out->key_count; i++) {
    Bytes part = key;
    if (out->key_count > 1) { /* of several columns: for each its length in two bytes, its bytes, and a zero byte */
      const int64_t size = key.size >= 3 ? load16(key.at) : 0;
      if (key.size < 3 + size || key.at[2 + size]) {
        out->error = "a partition key that is not of its columns";
        return 0;
      }
      part = (Bytes){key.at + 2, size};
      key = (Bytes){key.at + 3 + size, key.size - 3 - size};
    }
    if (out->keys[i] >= 0 && !put_value(out, head, out->keys[i], part)) return 0;
  }
  return 1;
}

/* Ends a row of the batch: what its partition has for each row, and its clustering (NULL: a partition without rows). */
static int end_row(Output *out, const Bytes *clustering) {
  Area *batch = &out->batch, *head = &out->head;
  if (out->head_start < 0) {
    if (!reserve(out, batch, head->size)) return 0;
    if (head->size) memcpy(batch->body + batch->size, head->body, (size_t)head->size); /* without a value it may have no body */
    out->head_start = batch->size;
    batch->size += head->size;
  }
  for (int i = 0; i < out->head_count; i++) {
    const int place = out->head_places[i];
    batch->starts[place][batch->row] = (int32_t)out->head_start + head->starts[place][0];
    batch->lengths[place][batch->row] = head->lengths[place][0];
  }
  for (int i = 0; i < out->head_time_count; i++)
    batch->times[out->head_times[i]][batch->row] = head->times[out->head_times[i]][0];
  for (int i = 0; i < out->clustering_count; i++)
    if (out->clustering[i] >= 0 && !put_value(out, batch, out->clustering[i], clustering ? clustering[i] : NULL_VALUE))
      return 0;
  batch->row++;
  out->repeated += head->size;
  return 1;
}

static int is_full(const Output *out) {
  return out->batch.row == out->rows || out->batch.size + out->repeated >= out->bytes;
}

/* Ends a row for a partition that has static columns and no rows. */
static int put_static_row(Output *out) {
  Area *batch = &out->batch;
  for (int i = 0; i < out->regulars.count; i++) {
    const Target *target = &out->regulars.targets[i];
    if (target->place >= 0 && !put_value(out, batch, target->place, NULL_VALUE)) return 0;
    if (target->time_place >= 0) batch->times[target->time_place][batch->row] = NEVER;
    if (target->ttl_place >= 0) batch->times[target->ttl_place][batch->row] = NEVER;
  }
  return end_row(out, NULL);
}

#endif
