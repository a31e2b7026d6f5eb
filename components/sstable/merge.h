/* Merges the partitions and rows of several Streams by Cassandra's rules, and lays the cells of the result out by column.
 *
 * The rules are those of Cells.reconcile, Row.Merger, RangeTombstoneMarker.Merger and LivenessInfo.supersedes. A deletion
 * is its time alone here: its local time only decides when a compaction may forget it. */
#ifndef MERGE_H
#define MERGE_H

#include "output.h"
#include "stream.h"

/* Says which of two cells of one column and path remains. */
static const Cell *newer(const Cell *a, const Cell *b) {
  if (a->time != b->time) return a->time > b->time ? a : b;
  if (a->ends != FOREVER || b->ends != FOREVER) {
    /* What is or will be deleted wins over what is not, and what is over what will be, whatever the time now. */
    if ((a->ends == FOREVER) != (b->ends == FOREVER)) return a->ends == FOREVER ? b : a;
    if (!a->ttl != !b->ttl) return a->ttl ? b : a;
    if (a->ends != b->ends) return a->ends > b->ends ? a : b;
    if (a->ttl != b->ttl) return a->ttl < b->ttl ? a : b;
  }
  return raw_order(a->value, b->value) >= 0 ? a : b;
}

static int cell_lives(const Cell *cell, int64_t now) { return cell->ends == FOREVER || (cell->ttl && now < cell->ends); }

/* Whether a row that was written at b's time is alive as a's says. */
static int row_supersedes(const Row *a, const Row *b) {
  if (a->time != b->time) return a->time > b->time;
  if ((a->ttl == EXPIRED_TTL) != (b->ttl == EXPIRED_TTL)) return a->ttl == EXPIRED_TTL;
  if (!a->ttl != !b->ttl) return a->ttl != 0;
  return a->ends > b->ends || (a->ends == b->ends && a->ttl < b->ttl);
}

static int row_lives(const Row *row, int64_t now) {
  return row->time != NEVER && row->ttl != EXPIRED_TTL && (!row->ttl || now < row->ends);
}

/* The SSTables of one table, in the order of their next partitions. */
typedef struct {
  Stream **heap;  /* those at the start of a partition, as a binary heap by (token, key) */
  int waiting;    /* their number */
  Stream **here;  /* those whose partition is being read */
  int present;    /* their number */
  Stream **tied;  /* those of `here` whose next item is the same */
  const Row **rows; /* their rows */
  const Order *clustering_orders;
  int64_t now;    /* seconds since 1970 */
  Stream **moved;  /* those that have left a partition, or are new: their next partition is to be read */
  int moving;     /* their number */
  int64_t deleted; /* time of the partition's deletion */
  int emitted, has_static; /* whether the partition has had a row, and has a static cell that lives */
  const Stream *failed; /* the stream that is damaged, if it is one stream */
  const char *error;
} Merge;

static int partition_order(const Stream *a, const Stream *b) {
  if (a->token != b->token) return a->token < b->token ? -1 : 1;
  return raw_order((Bytes){a->key, a->key_size}, (Bytes){b->key, b->key_size});
}

static void push(Merge *m, Stream *s) {
  int i = m->waiting++;
  for (; i && partition_order(s, m->heap[(i - 1) / 2]) < 0; i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
  m->heap[i] = s;
}

static Stream *pop(Merge *m) {
  Stream *const first = m->heap[0], *const moved = m->heap[--m->waiting];
  int i = 0;
  for (int child = 1; child < m->waiting; i = child, child = 2 * i + 1) {
    if (child + 1 < m->waiting && partition_order(m->heap[child + 1], m->heap[child]) < 0) child++;
    if (partition_order(moved, m->heap[child]) <= 0) break;
    m->heap[i] = m->heap[child];
  }
  m->heap[i] = moved;
  return first;
}

/* How a bound stands to the rows of its prefix: before (-1) or behind them (1); a row: 0. */
static int side(const Stream *s) { return s->kind == ROW ? 0 : s->bound <= 2 ? -1 : 1; }

/* Compares the next items of two streams of one partition, as ClusteringComparator does. */
static int item_order(const Merge *m, const Stream *a, const Stream *b) {
  const int64_t shorter = a->prefix < b->prefix ? a->prefix : b->prefix;
  for (int64_t i = 0; i < shorter; i++) {
    const int found = order_of(&m->clustering_orders[i], a->values[i], b->values[i]);
    if (found) return found;
  }
  if (a->prefix == b->prefix) return side(a) - side(b);
  return a->prefix < b->prefix ? side(a) : -side(b);
}

/* Finds the newest cell that is not deleted among the rows' cells of a simple column.
 *
 * Of a column that nobody asked for, the server leaves out cells that are older than the row's own write in their SSTable,
 * as that is taken for proof that the row lives (DeserializationHelper.includes). */
static const Cell *newest(const Row **rows, int count, int target, int64_t deleted, int asked) {
  const Cell *found = NULL;
  for (int i = 0; i < count; i++) {
    const Span *span = &rows[i]->spans[target];
    if (span->stamp != rows[i]->stamp || span->from == span->to) continue;
    const Cell *cell = &rows[i]->cells[span->from];
    if (cell->time > deleted && (asked || cell->time >= rows[i]->time)) found = found ? newer(found, cell) : cell;
  }
  return found;
}

/* Merges the cells of a complex column, by path, into out->parts: those that live. Returns 0 without memory. */
static int merge_parts(Output *out, const Row **rows, int count, const Target *target, int index, int64_t deleted,
                       int64_t now) {
  Parts *parts = &out->parts;
  parts->count = 0;
  for (int i = 0; i < count; i++) {
    const Span *span = &rows[i]->spans[index];
    const int has = span->stamp == rows[i]->stamp;
    if (has && span->deleted > deleted) deleted = span->deleted;
    parts->at[i] = has ? span->from : 0, parts->to[i] = has ? span->to : 0;
  }
  for (;;) {
    int first = -1;
    for (int i = 0; i < count; i++)
      if (parts->at[i] < parts->to[i] &&
          (first < 0 || order_of(&target->path_order, rows[i]->cells[parts->at[i]].path,
                                 rows[first]->cells[parts->at[first]].path) < 0))
        first = i;
    if (first < 0) return 1;
    const Bytes path = rows[first]->cells[parts->at[first]].path;
    const Cell *found = NULL;
    for (int i = first; i < count; i++) {
      if (parts->at[i] == parts->to[i]) continue;
      const Cell *cell = &rows[i]->cells[parts->at[i]];
      if (i != first && order_of(&target->path_order, cell->path, path)) continue;
      parts->at[i]++;
      if (cell->time > deleted) found = found ? newer(found, cell) : cell;
    }
    if (found && cell_lives(found, now) && !add_part(out, found)) return 0;
  }
}

/* Lays out the columns of merged rows in an area's row. Returns whether any cell lives or `alive`; -1 for an error. */
static int put_columns(Output *out, Area *area, const Group *group, const Row **rows, int count, int64_t deleted,
                       int64_t now, int alive) {
  for (int i = 0; i < group->count; i++) {
    const Target *target = &group->targets[i];
    if (alive && target->place < 0 && target->time_place < 0 && target->ttl_place < 0) continue;
    int64_t time = NEVER, left = NEVER;
    if (target->shape == SIMPLE) {
      const Cell *cell = newest(rows, count, i, deleted, target->asked);
      const int lives = cell && cell_lives(cell, now);
      if (lives) time = cell->time;
      if (lives && cell->ttl) left = cell->ends - now;
      if (target->place >= 0 && !put_value(out, area, target->place, lives ? cell->value : NULL_VALUE)) return -1;
    } else {
      if (!merge_parts(out, rows, count, target, i, deleted, now)) return -1;
      if (target->place >= 0 && !put_parts(out, area, target, &out->parts)) return -1;
      for (int64_t j = 0; j < out->parts.count; j++)
        if (out->parts.cells[j].time > time) time = out->parts.cells[j].time;
    }
    if (target->time_place >= 0) area->times[target->time_place][area->row] = time;
    if (target->ttl_place >= 0) area->times[target->ttl_place][area->row] = left;
    alive |= time != NEVER;
  }
  return alive;
}

/* Merges the rows of one clustering, and lays out the result where it lives. Returns 0 for an error. */
static int put_row(Merge *m, Output *out, int count, const Bytes *clustering, int64_t deleted) {
  Row life = {.time = NEVER, .ends = FOREVER};
  for (int i = 0; i < count; i++) {
    const Row *row = m->rows[i];
    if (row_supersedes(row, &life)) life.time = row->time, life.ends = row->ends, life.ttl = row->ttl;
    if (row->deleted > deleted) deleted = row->deleted;
  }
  const int alive = life.time > deleted && row_lives(&life, m->now);
  const int64_t size = out->batch.size;
  const int lives = put_columns(out, &out->batch, &out->regulars, m->rows, count, deleted, m->now, alive);
  if (lives > 0) {
    m->emitted = 1;
    return end_row(out, clustering);
  }
  out->batch.size = size;
  return lives == 0;
}

/* Starts the next partition: takes the streams that have it. Returns 0 where one of them must be read first. */
static int take_partition(Merge *m) {
  m->present = 0;
  while (m->waiting && (!m->present || !partition_order(m->heap[0], m->here[0]))) {
    Stream *s = pop(m);
    if (s->listed) {
      s->listed = 0;
      while (m->present) push(m, m->here[--m->present]);
      m->moved[m->moving++] = s;
      return 0;
    }
    m->here[m->present++] = s;
  }
  return 1;
}

/* Merges the partition's deletions and static rows. Returns 0 for an error. */
static int put_head(Merge *m, Output *out) {
  m->deleted = NEVER;
  for (int i = 0; i < m->present; i++) {
    Stream *s = m->here[i];
    if (s->deleted > m->deleted) m->deleted = s->deleted;
    s->stale = 1;
  }
  int64_t deleted = m->deleted;
  for (int i = 0; i < m->present; i++) {
    m->rows[i] = &m->here[i]->head;
    if (m->rows[i]->deleted > deleted) deleted = m->rows[i]->deleted;
  }
  m->emitted = 0;
  if (!put_key(out, (Bytes){m->here[0]->key, m->here[0]->key_size})) return 0;
  m->has_static = put_columns(out, &out->head, &out->statics, m->rows, m->present, deleted, m->now, 0);
  return m->has_static >= 0;
}

/* Takes the first of the partition's next items: a marker, or the rows of one clustering. Returns 0 for an error. */
static int take_items(Merge *m, Output *out) {
  Stream *first = m->here[0];
  int64_t deleted = m->deleted > first->open ? m->deleted : first->open;
  int count = 1;
  m->tied[0] = first;
  for (int i = 1; i < m->present; i++) {
    Stream *s = m->here[i];
    if (s->open > deleted) deleted = s->open;
    const int order = item_order(m, s, first);
    if (order < 0) first = s, count = 0;
    if (order <= 0) m->tied[count++] = s;
  }
  for (int i = 0; i < count; i++) {
    m->tied[i]->stale = 1;
    m->rows[i] = &m->tied[i]->row;
    if (m->tied[i]->kind == MARKER) m->tied[i]->open = m->tied[i]->opened;
  }
  return first->kind == MARKER || put_row(m, out, count, first->values, deleted);
}

enum { DONE = -1, FULL = -2, FAILED = -3 };

static int failed(Merge *m, const Stream *s, const char *error) {
  m->failed = s, m->error = error;
  return FAILED;
}

/* Merges until the output is FULL, everything is DONE, or a stream needs bytes: then its index is returned. */
static int merge(Merge *m, Output *out) {
  for (;;) {
    if (is_full(out)) return FULL;
    for (; m->moving; m->moving--) {
      Stream *s = m->moved[m->moving - 1];
      const int status = next_wanted(s);
      if (status == MORE) return s->index;
      if (status) return failed(m, s, s->error);
      if (s->kind != END) push(m, s);
      else release(s);
    }
    for (int i = m->present - 1; i >= 0; i--) {
      Stream *s = m->here[i];
      if (!s->stale) continue;
      const int status = next_item(s);
      if (status == MORE) return s->index;
      if (status) return failed(m, s, s->error);
      s->stale = 0;
      if (s->kind != END) continue;
      m->here[i] = m->here[--m->present];
      m->moved[m->moving++] = s;
    }
    if (m->present) {
      if (!take_items(m, out)) return failed(m, NULL, out->error);
      continue;
    }
    if (m->has_static && !m->emitted) {
      m->has_static = 0;
      if (!put_static_row(out)) return failed(m, NULL, out->error);
      continue;
    }
    m->has_static = 0;
    if (m->moving) continue;
    if (!m->waiting) return DONE;
    if (take_partition(m) && !put_head(m, out)) return failed(m, NULL, out->error);
  }
}

#endif
