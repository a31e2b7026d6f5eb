/* Columns -> framed tf.Examples -> splits, row by row; encode.pyx describes the layout and fills in Columns. */
#ifndef WIRE_H
#define WIRE_H

#include "hashes.h"

enum {
  CHUNK = 16, /* bytes copied at once, even if fewer are needed: the bytes before them are overwritten later */
  BLOCK = 128 /* rows between checksums: their bytes are complete in memory by then, and still in the cache */
};
enum { INTEGER, FLOAT, DOUBLE, BYTES, LARGE_BYTES };
enum { SCALAR, LIST, LARGE_LIST, FIXED_LIST };
enum { BYTES_TAG = 0x0A, FLOAT_TAG = 0x12, INTEGER_TAG = 0x1A };

typedef struct {
  int leaf, shape, tag;
  const uint8_t* valid; /* one bit per row; NULL: all are valid */
  int64_t valid_at;
  const uint8_t* lists; /* offsets of lists, in items; the first list starts at item `first` */
  int64_t first, width; /* width: items of a fixed-size list */
  int64_t cursor;       /* number of lists yet to be written, without those of null rows */
  const uint8_t *values, *starts; /* numbers; or bytes, and the offset of each value */
  const uint8_t* head;            /* the bytes before a scalar, without their sizes; CHUNK bytes before may be read */
  float largest;                  /* absolute value of the doubles converted to floats */
  int64_t head_size, name_size, small; /* small: maximum bytes of a scalar whose sizes all take one byte */
} Column;

typedef struct {
  const uint8_t* data;
  int64_t size; /* -1: there is nothing to hash */
} Extent;

static inline int bit(const uint8_t* bits, int64_t i) { return bits[i >> 3] >> (i & 7) & 1; }

/* The first item of list i, and the first byte of value i, which are the ends of the previous list or value. */
static inline int64_t list_start(const Column* c, int64_t i) {
  if (c->shape == LIST) return ((const int32_t*)c->lists)[i] - c->first;
  return c->shape == LARGE_LIST ? ((const int64_t*)c->lists)[i] - c->first : i * c->width;
}
static inline int64_t value_start(const Column* c, int64_t i) {
  return c->leaf == BYTES ? ((const int32_t*)c->starts)[i] : ((const int64_t*)c->starts)[i];
}

/* ---- The following functions write before p and return the start of what they have written ---- */

static inline int varint_size(uint64_t v) { return (70 - __builtin_clzll(v | 1)) / 7; }

static inline uint8_t* put_varint(uint8_t* p, uint64_t v) {
  const uint64_t more = 0x8080808080808080u;
  int size = varint_size(v);
  /* 8 groups of 7 bits, each into a byte of its own. */
  uint64_t w = (v & 0x000000000FFFFFFF) | (v & 0x00FFFFFFF0000000) << 4;
  w = (w & 0x00003FFF00003FFF) | (w & 0x0FFFC0000FFFC000) << 2;
  w = (w & 0x007F007F007F007F) | (w & 0x3F803F803F803F80) << 1;
  if (size <= 8) {
    store_64(p - 8, (w | more >> 8 * (8 - size) >> 8) << 8 * (8 - size));
  } else {
    store_64(p - size, w | more);
    p[8 - size] = (uint8_t)(v >> 56 | (size == 10) << 7);
    if (size == 10) p[-1] = 1;
  }
  return p - size;
}

static inline uint8_t* put_head(uint8_t* p, int tag, uint64_t size) {
  p = put_varint(p, size) - 1;
  *p = (uint8_t)tag;
  return p;
}

static inline uint8_t* put_bytes(uint8_t* p, const uint8_t* data, int64_t start, int64_t stop) {
  int64_t size = stop - start;
  p -= size;
  if (size > 2 * CHUNK || stop < CHUNK) {
    memcpy(p, data + start, size);
  } else {
    memcpy(p + size - CHUNK, data + stop - CHUNK, CHUNK);
    if (size > CHUNK) memcpy(p, data + start, CHUNK);
  }
  return p;
}

/* One number, or the bytes of one value without their size. */
static inline uint8_t* put_value(uint8_t* p, Column* c, int64_t i) {
  uint64_t integer;
  uint32_t word;
  double real;
  float rounded;
  switch (c->leaf) {
    case INTEGER:
      memcpy(&integer, c->values + 8 * i, 8);
      return put_varint(p, integer);
    case FLOAT:
      memcpy(&word, c->values + 4 * i, 4);
      if ((word & 0x7FFFFFFF) > 0x7F800000) word |= 0x00400000; /* a NaN as a cast through double leaves it: quiet */
      store_32(p - 4, word);
      return p - 4;
    case DOUBLE:
      memcpy(&real, c->values + 8 * i, 8);
      rounded = (float)real;
      memcpy(p - 4, &rounded, 4);
      rounded = __builtin_fabsf(rounded);
      c->largest = rounded > c->largest ? rounded : c->largest; /* without a branch, since overflows are rare */
      return p - 4;
    default:
      return put_bytes(p, c->values, value_start(c, i), value_start(c, i + 1));
  }
}

/* The feature of a small scalar whose value has been written: copies the head and fills in four sizes. */
static inline uint8_t* put_small(uint8_t* p, const Column* c, int64_t size) {
  int64_t i = c->head_size;
  uint8_t* start = p - i;
  while (i > 0) {
    i -= CHUNK;
    memcpy(start + i, c->head + i, CHUNK);
  }
  start[1] = (uint8_t)(c->head_size - 2 + size);
  p[-5] = (uint8_t)(size + 4);
  p[-3] = (uint8_t)(size + 2);
  p[-1] = (uint8_t)size;
  return start;
}

/* The feature of a row, unless it is null. */
static inline uint8_t* put_feature(uint8_t* p, Column* c, int64_t row, Extent* key) {
  uint8_t* const end = p;
  if (c->valid && !bit(c->valid, c->valid_at + row)) return p;
  if (c->shape == SCALAR) {
    p = put_value(p, c, row);
    int64_t size = end - p;
    if (size <= c->small) {
      if (key) *key = (Extent){p - 4, size + 4};
      return put_small(p, c, size);
    }
    p = put_head(p, 0x0A, size);
  } else {
    const int64_t stop = list_start(c, c->cursor), start = list_start(c, --c->cursor);
    for (int64_t i = stop - 1; i >= start; i--) {
      p = put_value(p, c, i);
      if (c->leaf >= BYTES) p = put_head(p, 0x0A, value_start(c, i + 1) - value_start(c, i));
    }
    if (c->leaf < BYTES && p < end) p = put_head(p, 0x0A, end - p);
  }
  p = put_head(p, c->tag, end - p);
  if (key) *key = (Extent){p, end - p};
  p = put_head(p, 0x12, end - p) - c->name_size;
  memcpy(p, c->head + 4, c->name_size);
  p = put_head(p, 0x0A, c->name_size);
  return put_head(p, 0x0A, end - p);
}

/* The feature list of a row, unless it is null: each item of the list becomes a feature, a step of the sequence. */
static inline uint8_t* put_feature_list(uint8_t* p, Column* c, int64_t row) {
  uint8_t* const end = p;
  if (c->valid && !bit(c->valid, c->valid_at + row)) return p;
  const int64_t stop = list_start(c, c->cursor), start = list_start(c, --c->cursor);
  for (int64_t i = stop - 1; i >= start; i--) {
    uint8_t* const item = p;
    p = put_value(p, c, i);
    p = put_head(p, 0x0A, item - p);
    p = put_head(p, c->tag, item - p);
    p = put_head(p, 0x0A, item - p);
  }
  p = put_head(p, 0x12, end - p) - c->name_size;
  memcpy(p, c->head + 4, c->name_size);
  p = put_head(p, 0x0A, c->name_size);
  return put_head(p, 0x0A, end - p);
}

/* Writes all rows at the end of the room, the columns from `plain` on as sequences. Sets the start of each frame and,
 * for column `keyed`, the key of each row. Returns the start of the first frame; if an example exceeds `largest` bytes,
 * -1 - its row. */
static int64_t write_frames(uint8_t* base, int64_t room, Column* columns, int plain, int count, int64_t rows,
                            int64_t largest, int64_t* starts, int keyed, Extent* keys) {
  uint8_t* p = base + room;
  starts[rows] = room;
  for (int64_t first, last = rows; last > 0; last = first) {
    first = last > BLOCK ? last - BLOCK : 0;
    for (int64_t row = last - 1; row >= first; row--) {
      uint8_t* const end = p -= FRAME_FOOT;
      if (keys) keys[row].size = -1;
      for (int i = count - 1; i >= plain; i--) p = put_feature_list(p, columns + i, row);
      if (p < end) p = put_head(p, 0x12, end - p);
      uint8_t* const features = p;
      for (int i = plain - 1; i >= 0; i--) p = put_feature(p, columns + i, row, i == keyed ? keys + row : NULL);
      if (p < features) p = put_head(p, 0x0A, features - p);
      if (end - p > largest) return -1 - row;
      p -= FRAME_HEAD;
      starts[row] = p - base;
    }
    seal(base, starts + first, last - first);
  }
  for (int64_t row = 0; row <= rows; row++) starts[row] -= p - base;
  return p - base;
}

/* ---- Splits ---- */

/* Sets the split of each row. Its bucket is the SHA-256 of its key (of the record without keys), as one integer modulo
 * the last end; its split is the number of ends that are not above the bucket. If records are hashed, `hashes` receives
 * the first 64 bits of each hash. Returns 0 if a row has no key, else 1. */
static int assign_splits(const uint8_t* base, const int64_t* starts, const Extent* keys, int64_t rows,
                         const uint32_t* ends, int count, int32_t* splits, uint64_t* hashes) {
  const uint64_t n = ends[count - 1];
  uint64_t weights[8] = {[7] = 1 % n}; /* of the words of a digest, modulo n */
  for (int i = 6; i >= 0; i--) weights[i] = (weights[i + 1] << 32) % n;
  for (int64_t row = 0; row < rows; row++) {
    const uint8_t* record = base + starts[row] + FRAME_HEAD;
    const Extent hashed = keys ? keys[row] : (Extent){record, base + starts[row + 1] - FRAME_FOOT - record};
    if (hashed.size < 0) return 0;
    splits[row] = 0;
    if (count == 1) continue; /* whatever its bucket is */
    uint32_t digest[8];
    sha256(hashed.data, hashed.size, digest);
    if (hashes) hashes[row] = (uint64_t)digest[0] << 32 | digest[1];
    uint64_t low = 0, high = 0;
    for (int i = 0; i < 8; i++) {
      uint64_t product = digest[i] * weights[i];
      low += product & 0xFFFFFFFF;
      high += product >> 32;
    }
    const uint64_t bucket = ((high % n << 32) + low % n) % n;
    for (int i = 0; i < count; i++) splits[row] += bucket >= ends[i];
  }
  return 1;
}

/* The first 64 bits of each record's SHA-256. */
static void hash_records(const uint8_t* base, const int64_t* starts, int64_t rows, uint64_t* hashes) {
  for (int64_t row = 0; row < rows; row++) {
    const uint8_t* record = base + starts[row] + FRAME_HEAD;
    uint32_t digest[8];
    sha256(record, base + starts[row + 1] - FRAME_FOOT - record, digest);
    hashes[row] = (uint64_t)digest[0] << 32 | digest[1];
  }
}

#endif
