/*
 * A file that may be written: its content in the backup, and over it the 4 KiB
 * blocks that were written since, in a sparse scratch file of its own. Nothing
 * is ever copied but those blocks.
 *
 * The scratch file has no name, so nothing stays when the process ends. It is
 * throw-away: it is never synced. Thread-safe.
 */
#ifndef NEAP_TOOLS_COW_H
#define NEAP_TOOLS_COW_H

#include <sys/types.h>

#include "tools/content.h"

struct cow;

/*
 * `object` 0: a new file, empty in the backup. `size`: of the object. The
 * scratch file is made in `scratch_fd` by the first write.
 */
struct cow *cow_new(
    struct content *content, uint64_t object, uint64_t size, int scratch_fd);
void cow_free(struct cow *c); /* gives its scratch space back; NULL is fine */

uint64_t cow_size(const struct cow *c);
uint64_t cow_scratch_bytes(struct cow *c); /* on the scratch's disk */

/* Up to `len` bytes; how many, less only at the end of the file. */
ssize_t cow_read(
    struct cow *c, uint64_t off, void *to, size_t len, struct err *e);
/* All or an error; -ENOSPC when the scratch is full. */
int cow_write(
    struct cow *c, uint64_t off, const void *from, size_t len, struct err *e);
int cow_truncate(struct cow *c, uint64_t size, struct err *e);
/* Zeros in [off, off + len); the file's size stays. */
int cow_zero(struct cow *c, uint64_t off, uint64_t len, struct err *e);
/* Make the file at least `size` bytes long, with zeros. */
int cow_extend(struct cow *c, uint64_t size, struct err *e);

#endif
