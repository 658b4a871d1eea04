/*
 * Snapshot providers. A volume is what one snapshot freezes as a whole. The
 * law of the family: the view never changes; remove is idempotent.
 *
 * One thread at a time for each volume.
 */
#ifndef NEAP_SNAP_SNAP_H
#define NEAP_SNAP_SNAP_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"
#include "kmod-free/io/extents.h"

#define SNAP_NAME_MAX 200
#define SNAP_PREFIX "neap-"

enum {
	SNAP_ATOMIC = 1, /* the view is one instant */
	SNAP_FILES = 2,  /* its root is a folder of files */
	SNAP_IMAGE = 4,  /* the view is a block device or a file: one object */
	SNAP_COSTLY =
	    8, /* writers pay for each snapshot as long as it stands */
};

/*
 * What an image of a volume is: as it was when the volume was opened, and from
 * snap_view on as the view is.
 */
struct snap_image {
	char *name;       /* of the volume: "vg/lv", "loop0" */
	char *label;      /* of its file system; "": none, or none known */
	char *mounted_at; /* where the root of its file system is on this host;
			     NULL: nowhere */
	uint64_t size;    /* bytes */
	uint32_t sector;  /* bytes of a logical sector */
	bool frozen;      /* its file system is, when a snapshot is taken */
};

struct snap_ops;

struct snap_volume {
	const struct snap_ops *ops; /* first member of each implementation */
	char *id; /* stable and unique: "btrfs:FSUUID:SUBVOLUUID" */
	char *fs_uuid, *fs_type;
	char *root; /* absolute path of the volume's root on this host, or of
		       the part of it that is mounted */
	uint64_t subvolume;      /* btrfs: the subvolume's id */
	struct snap_image image; /* SNAP_IMAGE; then fs_uuid and fs_type are
				    "" where libblkid finds none */
};

typedef int snap_list_fn(void *arg, const char *name);

struct snap_ops {
	const char *name;    /* word of the configuration: "btrfs" */
	const char *summary; /* one line for people */
	unsigned caps;       /* SNAP_* */

	/* required */
	/* The volume of an absolute path. -EOPNOTSUPP: not this provider's,
	 * with what is missing in the text. -EPERM: not root. */
	int (*open)(struct snap_volume **out, const char *path, struct err *e);
	void (*close)(struct snap_volume *v);
	int (*create)(struct snap_volume *v, const char *name, struct err *e);
	/* The view's root as a folder descriptor; SNAP_IMAGE: the device or
	 * file itself, open for reading. Gives. -ENOENT. */
	int (*view)(struct snap_volume *v, const char *name, struct err *e);
	int (*list)(
	    struct snap_volume *v, snap_list_fn *fn, void *arg, struct err *e);
	int (*remove)(struct snap_volume *v, const char *name, struct err *e);
	/* Where `path` (absolute, resolved) lies in the volume, relative to
	 * the view's root, SNAP_IMAGE: to the root of its file system ("" for
	 * the root itself); gives through *rel. */
	int (*locate)(
	    struct snap_volume *v, const char *path, char **rel, struct err *e);

	/* optional */
	/* Things below `rel` that a snapshot would not hold (nested
	 * subvolumes, mounts): called with each absolute path. */
	int (*gaps)(struct snap_volume *v, const char *rel, snap_list_fn *fn,
	    void *arg, struct err *e);
	/* All that create can refuse, find out and do before the instant;
	 * frozen: the volume will be frozen when create is called, and
	 * something may already be there that remove takes away. */
	int (*ready)(struct snap_volume *v, const char *name, bool frozen,
	    struct err *e);
	/* It can be frozen together with others, and its snapshot be taken then:
	 * what device-mapper calls the device that all that is written goes
	 * through; see freeze.h. Gives. */
	char *(*freezes)(const struct snap_volume *v);
	/* Is a view that was read still what it was? -EIO: it was lost while
	 * it was read, with the reason. */
	int (*intact)(struct snap_volume *v, const char *name, struct err *e);
	/* To be called every few seconds while a view is read: gives it more room where it needs that. *said: a line for
	 * people, given; NULL: nothing to say. -EIO: it is lost. */
	int (*watch)(struct snap_volume *v, const char *name, char **said,
	    struct err *e);
};

/*
 * driver "auto" tries all that make atomic views; "none" and "device" are only
 * taken by name, and "none" for a block device is "device". Gives. The text of
 * -EOPNOTSUPP says for each what is missing.
 */
int snap_open(struct snap_volume **out, const char *driver, const char *path,
    struct err *e);
void snap_close(struct snap_volume *v); /* NULL is fine */
/* Goes before each snap_create, which then is as short as can be. */
int snap_ready(
    struct snap_volume *v, const char *name, bool frozen, struct err *e);
int snap_create(struct snap_volume *v, const char *name, struct err *e);
int snap_view(struct snap_volume *v, const char *name, struct err *e);
int snap_list(
    struct snap_volume *v, snap_list_fn *fn, void *arg, struct err *e);
int snap_remove(struct snap_volume *v, const char *name, struct err *e);
int snap_locate(
    struct snap_volume *v, const char *path, char **rel, struct err *e);
int snap_intact(struct snap_volume *v, const char *name, struct err *e);
int snap_watch(
    struct snap_volume *v, const char *name, char **said, struct err *e);
/*
 * SNAP_IMAGE: what of a view its file system uses, as ranges of object 0,
 * settled; the rest holds nothing, whatever bytes are there. -EOPNOTSUPP: that
 * cannot be told; -ESTALE: not be believed; and why.
 */
int snap_used(struct snap_volume *v, const char *name, struct extents *out,
    struct err *e);
int snap_gaps(struct snap_volume *v, const char *rel, snap_list_fn *fn,
    void *arg, struct err *e);

extern const struct snap_ops *const snap_all[]; /* NULL-terminated */

#endif
