/*
 * The mount table of this process, and where a path lies in it. One thread's.
 */
#ifndef NEAP_CORE_MOUNTS_H
#define NEAP_CORE_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

/* One line of /proc/self/mountinfo; the strings live in the table. */
struct mounts_row {
	uint64_t id, parent;
	const char *dev;    /* "0:38": the file system's, the same for all
			       mounts of one btrfs, whatever st_dev says */
	const char *root;   /* what of the file system is mounted */
	const char *point;  /* and where */
	const char *type;   /* "btrfs" */
	const char *source; /* "/dev/vda1" */
	const char *super;  /* options of the file system: "rw,…" */
};

struct mounts {
	struct buf text;
	struct mounts_row *v;
	size_t n, cap;
};

int mounts_load(struct mounts *m, struct err *e);
/* Takes apart `text`, which it changes and which must outlive the table; what
 * is not a line of that form is an error. */
int mounts_parse(struct mounts *m, char *text, struct err *e);
void mounts_fini(struct mounts *m);
#define SCOPED_MOUNTS __attribute__((cleanup(mounts_fini)))
const struct mounts_row *mounts_by_id(const struct mounts *m, uint64_t id);
bool mounts_row_read_only(const struct mounts_row *r); /* the file system */

/* Which mount and which device (on btrfs: subvolume) a path lies on. */
struct mounts_place {
	dev_t dev;
	uint64_t mount; /* id in the table */
	mode_t mode;
};

int mounts_place(const char *path, struct mounts_place *out, struct err *e);
bool mounts_same(const struct mounts_place *a, const struct mounts_place *b);
/*
 * The folder that `path` is or lies in (gives), with its place. A single
 * file that is a mount by itself: -EOPNOTSUPP.
 */
int mounts_folder(
    const char *path, char **dir, struct mounts_place *out, struct err *e);
/* The highest folder above `dir` on the same mount and device; gives. */
int mounts_top(const char *dir, char **top, struct err *e);
/* Where `path` lies below `root`, on the same mount and device ("": the root
 * itself); gives through *rel. -EXDEV: elsewhere. */
int mounts_locate(
    const char *root, const char *path, char **rel, struct err *e);
/* Calls fn with each mount point below `top`. */
int mounts_below(const char *top, int (*fn)(void *arg, const char *point),
    void *arg, struct err *e);
/* "ext4 (/dev/vda1 at /)", for messages; gives, never NULL. */
char *mounts_describe(const char *path);

#endif
