/*
 * What a path of a send stream means at that point of the stream. The stream
 * turns the older snapshot into the newer one step by step, and names files as
 * they are called in between: "o257-9-0" for a folder whose name another has
 * taken, then its last name. This keeps what has moved: a tree over the older
 * snapshot's, in which only changed names exist. A moved folder takes
 * everything below it along, unlooked at.
 *
 * Pure: it reads no file system. -ESTALE where a step makes no sense. One
 * thread's.
 */
#ifndef NEAP_TRACK_SEND_NAMES_H
#define NEAP_TRACK_SEND_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

/* Past this the change is too large to be followed by name: -ESTALE. */
#define SEND_NAMES_BYTES_MAX (48u << 20)

struct send_names;

struct send_names *send_names_new(void);
void send_names_free(struct send_names *t); /* NULL is fine */

/* A new object of any kind. */
int send_names_make(struct send_names *t, struct span path, struct err *e);
int send_names_rename(
    struct send_names *t, struct span from, struct span to, struct err *e);
/* `path` becomes another name of `target`. */
int send_names_link(
    struct send_names *t, struct span path, struct span target, struct err *e);
int send_names_remove(struct send_names *t, struct span path, struct err *e);
/*
 * What the path means: 0 a new object, or 1 and in `base` the path that the
 * same object has in the older snapshot ("": its root), with a final NUL.
 */
int send_names_resolve(
    struct send_names *t, struct span path, struct buf *base, struct err *e);

#endif
