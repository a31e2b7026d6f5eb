/* Partitions of one Data.db, and what is in them: see row.h for how they are parsed. */
#ifndef STREAM_H
#define STREAM_H

#include "murmur3.h"
#include "row.h"

/* Frees the window of a stream that has ended. */
static void release(Stream *s) {
  free(s->window);
  s->window = NULL;
  s->begin = s->size = s->capacity = 0;
  s->ended = 1;
}

/* Reads the deletion of a partition. */
static int read_partition_deletion(Stream *s, const uint8_t **at, const uint8_t *end) {
  TAKE(*at < end);
  if (s->wide_times) {
    const int live = **at & 0x80;
    TAKE(live || end - *at >= 12);
    CHECK(!live || **at == 0x80, "a partition's deletion with unknown flags");
    s->deleted = live ? NEVER : (int64_t)load64(*at);
    *at += live ? 1 : 12;
    return OK;
  }
  TAKE(end - *at >= 12);
  s->deleted = (int64_t)load64(*at + 4);
  *at += 12;
  return OK;
}

/* Reads the start of the next partition: its key, its deletion and its static row. At the file's end kind is END. */
static int next_partition(Stream *s) {
  const uint8_t *at = s->window + s->begin, *const end = s->window + s->size;
  if (at == end && s->last) {
    s->kind = END;
    return OK;
  }
  TAKE(end - at >= 2);
  const int64_t size = load16(at);
  TAKE(end - at >= 2 + size);
  const uint8_t *const key = at + 2;
  at = key + size;
  const int status = read_partition_deletion(s, &at, end);
  if (status) return status;
  s->head.stamp++; /* no column of an earlier static row */
  s->head.count = 0;
  int64_t has_static = 0;
  if (s->statics.count) {
    TAKE(end - at >= 2);
    CHECK((at[0] & 0x83) == 0x80 && at[1] == 1, "a partition without its static row");
    const int flags = *at;
    at += 2;
    const int found = read_row(s, &s->head, s->statics, flags, &at, end);
    if (found) return found;
    has_static = s->head.any;
  }
  const int64_t token = token_of(key, size);
  if (s->promised) {
    CHECK(s->key_size == size && !memcmp(s->key, key, (size_t)size), "another first partition than its other files name");
    s->promised = 0;
  }
  if (s->placed) {
    CHECK(s->low <= token && token <= s->high, "another partition than its index names");
    s->placed = 0;
  }
  if (s->begun) {
    const int order = token != s->token ? (token > s->token) - (token < s->token)
                                        : raw_order((Bytes){key, size}, (Bytes){s->key, s->key_size});
    CHECK(order > 0, "partitions out of order");
  }
  if (token > s->until) {
    s->kind = END;
    return OK;
  }
  memcpy(s->key, key, (size_t)size);
  s->key_size = size, s->token = token, s->open = NEVER, s->kind = ROW;
  s->begun = 1, s->partitions += token > s->after, s->rows += has_static && token > s->after;
  s->begin = at - s->window;
  return OK;
}

/* MORE, unless the window should hold any clustering, whose values have at most 64 KiB. */
static int longer(Stream *s, const uint8_t *end) {
  CHECK(end - s->window - s->begin <= (s->clustering + 1) * (int64_t)(1 << 17), "a clustering value of more than 64 KiB");
  return MORE;
}

/* Reads the next row or marker of the partition; at the partition's end kind is END. */
static int next_item(Stream *s) {
  const uint8_t *at = s->window + s->begin, *const end = s->window + s->size;
  uint64_t size, n;
  TAKE(at < end);
  const int flags = *at++;
  s->kind = flags & 1 ? END : flags & 2 ? MARKER : ROW;
  if (s->kind == END) {
    CHECK(flags == 1, "a partition's end with unknown flags");
  } else if (s->kind == ROW) {
    CHECK(!(flags & 0x80), "a row of a materialized view, or a static row among others");
    s->prefix = s->clustering;
    if (!read_clustering(s, &at, end, s->prefix, s->values)) return longer(s, end);
    const int status = read_row(s, &s->row, s->regulars, flags, &at, end);
    if (status) return status;
    s->rows += s->token > s->after;
  } else {
    TAKE(end - at >= 3);
    s->bound = at[0], s->prefix = load16(at + 1);
    at += 3;
    CHECK(flags == 2 && s->bound <= 7 && s->bound != 3 && s->bound != 4 && s->prefix <= s->clustering,
          "a range tombstone of an unknown kind");
    if (!read_clustering(s, &at, end, s->prefix, s->values)) return longer(s, end);
    TAKE(read_vint(&at, end, &size));
    TAKE(size <= (uint64_t)(end - at));
    const uint8_t *const body = at + size;
    int64_t time = NEVER;
    BODY(read_vint(&at, body, &n));
    if (read_deletion(s, &at, body, &time)) return DAMAGED;
    if (s->bound == 2 || s->bound == 5) { /* a boundary: the end of one range, then the start of the next */
      if (read_deletion(s, &at, body, &time)) return DAMAGED;
    } else if (s->bound == 0 || s->bound == 6) time = NEVER;
    CHECK(at == body, "a range tombstone that ends within its size");
    s->opened = time;
  }
  s->begin = at - s->window;
  return OK;
}

/* Whether the partition that has been started is one to read. */
static int is_wanted(Stream *s) {
  if (s->token <= s->after) return 0;
  if (!s->owned) return 1;
  while (s->owned_count && s->owned[1] < s->token) s->owned += 2, s->owned_count--;
  return s->owned_count && s->owned[0] < s->token;
}

/* Reads the start of the next partition that is wanted, and passes over the others. Behind the last one kind is END. */
static int next_wanted(Stream *s) {
  for (;;) {
    const int status = s->passing ? next_item(s) : next_partition(s);
    if (status) return status;
    if (s->passing) {
      s->passing = s->kind != END;
      continue;
    }
    if (s->kind == END || is_wanted(s)) return OK;
    s->passing = 1;
  }
}

#endif
