/*
 * A backup's tree that can be changed: what was changed is in memory (names,
 * attributes) and in the scratch (written blocks, cow.h); all else comes from
 * the maps, so memory follows the changes, not the backup. Without a scratch it
 * is read-only and keeps nothing.
 *
 * An inode is its object's number; new ones count on from OVERLAY_FIRST_NEW.
 * Results are 0 or a negative errno as a file system answers it; damage in the
 * repository is told to `report` with the place and answered as -EIO.
 * Thread-safe.
 */
#ifndef NEAP_TOOLS_OVERLAY_H
#define NEAP_TOOLS_OVERLAY_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "tools/content.h"

#define OVERLAY_FIRST_NEW (1ull << 56)

/* `path` and `off` where they are known, else NULL and 0. */
typedef void overlay_report_fn(
    void *arg, const char *path, uint64_t off, const struct err *e);

struct overlay_how {
	struct map_view *view;
	struct content *content;
	int scratch_fd; /* a folder; borrowed; -1: read-only */
	overlay_report_fn *report;
	void *arg;
};

struct overlay;
struct overlay_file; /* an open file */

struct overlay *overlay_new(const struct overlay_how *how);
void overlay_free(struct overlay *ov);
bool overlay_writable(const struct overlay *ov);
uint64_t overlay_scratch_bytes(struct overlay *ov);
/* The free space is the scratch's; none in a read-only view. */
int overlay_statvfs(struct overlay *ov, struct statvfs *out);

int overlay_lookup(
    struct overlay *ov, uint64_t folder, const char *name, struct stat *st);
int overlay_stat(struct overlay *ov, uint64_t ino, struct stat *st);
int overlay_readlink(struct overlay *ov, uint64_t ino, char **target);

/* Names of a folder in byte order behind `after` (NULL: all); a result other
 * than 0 of `fn` ends the walk. No lock is held while `fn` runs. */
typedef int overlay_name_fn(void *arg, const char *name, uint64_t ino);
int overlay_list(struct overlay *ov, uint64_t folder, const char *after,
    overlay_name_fn *fn, void *arg);

/* Gives the value / the names, each with its NUL. -ENODATA. */
int overlay_getxattr(
    struct overlay *ov, uint64_t ino, const char *name, struct buf *out);
int overlay_listxattr(struct overlay *ov, uint64_t ino, struct buf *out);
int overlay_setxattr(struct overlay *ov, uint64_t ino, const char *name,
    struct span value, int flags);
int overlay_removexattr(struct overlay *ov, uint64_t ino, const char *name);

struct overlay_make {
	mode_t mode; /* with its type */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	const char *target; /* of a symbolic link, or NULL */
};
int overlay_make(struct overlay *ov, uint64_t folder, const char *name,
    const struct overlay_make *how, struct stat *st);
int overlay_link(struct overlay *ov, uint64_t ino, uint64_t folder,
    const char *name, struct stat *st);
int overlay_unlink(struct overlay *ov, uint64_t folder, const char *name);
int overlay_rmdir(struct overlay *ov, uint64_t folder, const char *name);
/* flags: RENAME_NOREPLACE or RENAME_EXCHANGE. */
int overlay_rename(struct overlay *ov, uint64_t folder, const char *name,
    uint64_t to_folder, const char *to_name, unsigned flags);

/* Which fields of `st` to set. */
enum {
	OVERLAY_MODE = 1,
	OVERLAY_UID = 2,
	OVERLAY_GID = 4,
	OVERLAY_SIZE = 8,
	OVERLAY_ATIME = 16,
	OVERLAY_MTIME = 32,
	OVERLAY_CTIME = 64,
};
int overlay_set(
    struct overlay *ov, uint64_t ino, unsigned fields, const struct stat *st);

int overlay_open(
    struct overlay *ov, uint64_t ino, bool writes, struct overlay_file **out);
void overlay_close(struct overlay *ov, struct overlay_file *f);
ssize_t overlay_read(struct overlay *ov, struct overlay_file *f, uint64_t off,
    void *to, size_t len);
/* SEEK_DATA or SEEK_HOLE; a file that was changed, or may be just now, is
 * data from end to end. -ENXIO as lseek(2) has it. */
int overlay_seek(struct overlay *ov, struct overlay_file *f, uint64_t off,
    int whence, uint64_t *at);
int overlay_write(struct overlay *ov, struct overlay_file *f, uint64_t off,
    const void *from, size_t len);
/* mode: FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE as in fallocate(2). */
int overlay_fallocate(struct overlay *ov, struct overlay_file *f, int mode,
    uint64_t off, uint64_t len);

#endif
