/*
 * Trackers: which ranges of which files may have changed between two held
 * snapshots of one volume? The law of the family: a superset, or -ESTALE.
 *
 * An answer covers the files that exist in both under the same inode number
 * and inode generation; every other file of the newer one is new as a whole.
 * Attributes and names are the caller's to compare.
 */
#ifndef NEAP_TRACK_TRACKER_H
#define NEAP_TRACK_TRACKER_H

#include "kmod-free/io/extents.h"
#include "kmod-free/snap/snap.h"

struct tracker_pair {
	struct snap_volume *volume;
	const char *from, *to; /* names of the held snapshots */
	uint64_t from_bytes;   /* SNAP_IMAGE: size of the older one, as its
				  backup says; the newer one's view is open */
};

struct tracker_answer {
	bool everything;       /* it names all: ranges is empty */
	struct extents ranges; /* by inode number of the newer snapshot */
};

struct tracker_ops {
	const char *name; /* word of configuration and records */
	const char *summary;
	bool compares;      /* needs the last backup's snapshot to be held */
	const char *second; /* another way of comparing, to be asked now and
			       then too; NULL: there is none */
	/* 0, or -EOPNOTSUPP with the reason. */
	int (*probe)(struct snap_volume *v, struct err *e);
	int (*changed)(const struct tracker_pair *p, struct tracker_answer *out,
	    struct err *e);
	/* SNAP_IMAGE: what of a held snapshot holds anything at all; the rest
	 * reads as zeros. NULL: it cannot tell. */
	int (*mapped)(struct snap_volume *v, const char *name,
	    struct extents *out, struct err *e);
};

/* "auto": the best for this volume, first that answers its probe. */
int tracker_pick(const struct tracker_ops **out, const char *name,
    struct snap_volume *v, struct err *e);
/* Settles the ranges. -ESTALE: cannot vouch, take everything; the text says
 * why. Any other failure is to be treated the same way, with a louder text. */
int tracker_changed(const struct tracker_ops *t, const struct tracker_pair *p,
    struct tracker_answer *out, struct err *e);
/* By the tracker that can tell; gives ranges of object 0, settled, and nothing
 * when it fails: a part of them would pass for the whole. -EOPNOTSUPP: none can;
 * other failures as of tracker_changed. */
int tracker_mapped(struct snap_volume *v, const char *name, struct extents *out,
    struct err *e);
void tracker_answer_fini(struct tracker_answer *a);

/* NULL-terminated */
extern const struct tracker_ops *const tracker_all[];

#endif
