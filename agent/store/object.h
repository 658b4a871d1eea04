/*
 * An object's record: all that a file, folder or link needs to come back
 * exactly, but its content and its names. encode and decode are the 'O' value
 * of a map, byte for byte as in docs/format.md.
 */
#ifndef NEAP_STORE_OBJECT_H
#define NEAP_STORE_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

enum object_type {
	OBJECT_FILE = 1,
	OBJECT_DIR,
	OBJECT_SYMLINK,
	OBJECT_FIFO,
	OBJECT_SOCKET,
	OBJECT_CHAR,
	OBJECT_BLOCK,
	OBJECT_IMAGE, /* all of a volume, as a device shows it */
};

struct object_xattr {
	char *name;
	void *value;
	size_t value_len;
};

struct object {
	enum object_type type;
	uint32_t mode; /* permission bits, 07777 */
	uint32_t uid, gid;
	uint32_t nlink; /* names within this backup may be fewer */
	uint64_t size;  /* files and images: bytes */
	int64_t mtime_s, atime_s;
	uint32_t mtime_ns, atime_ns;
	uint32_t rdev_major, rdev_minor;
	uint32_t flags; /* FS_*_FL of FS_IOC_GETFLAGS, the settable ones */
	char *target;   /* symlinks */
	struct object_xattr *xattr; /* sorted by name; POSIX ACLs are here */
	size_t xattrs;
	/* images; the texts are "" where libblkid found none */
	uint32_t sector; /* bytes of a logical sector */
	char *fs_type, *fs_uuid, *fs_label;
};

/* Has it blocks? Files and images do. */
static inline bool
object_has_content(enum object_type t)
{
	return t == OBJECT_FILE || t == OBJECT_IMAGE;
}

void object_fini(struct object *o); /* frees the members */
#define SCOPED_OBJECT __attribute__((cleanup(object_fini)))
void object_encode(const struct object *o, struct buf *out);
int object_decode(struct object *o, struct span in, struct err *e);

/*
 * Read one from / put one on a path relative to `dirfd` (not followed). Both
 * need /proc.
 *
 * apply sets owner, mode, xattrs, flags, times, in the order that keeps them,
 * and takes away xattrs that the record has not. Immutable and append-only
 * come last, so a folder is applied after what it holds. What the target
 * cannot hold, or we may not set, is skipped: -EOPNOTSUPP names all of it
 * after the rest has been set, and the caller decides. Where the owner could
 * not be set, the set-id bits are left out.
 *
 * An image is applied to a regular file: it has owner and mode, and no times.
 * read gives none.
 */
int object_read(struct object *o, int dirfd, const char *name, struct err *e);
int object_apply(
    const struct object *o, int dirfd, const char *name, struct err *e);
/*
 * To a new, still empty file or folder: the flags that decide how its blocks
 * will be written (no copy-on-write, compression), instead of what it has from
 * its folder. Where they do not take, object_apply says so.
 */
void object_apply_early(const struct object *o, int fd);
/*
 * Can object_apply bring the file that is there to what the record has? Not
 * where they differ in copy-on-write and it is on btrfs, which lets only an
 * empty file choose, and takes the choice of another without a word.
 */
bool object_can_become(const struct object *o, int fd);

#endif
