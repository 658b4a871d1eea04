/*
 * The tree of a new backup: walk the views of the plan's paths, number the
 * objects, and put into the delta map what is new, changed or gone in names
 * and attributes. What is left to do is in `file`: the regular files, whose
 * content the copy pass looks at. A volume that is backed up as an image is one
 * file here, whatever paths lie on it.
 *
 * Attributes of every object are read anew for each backup and compared by
 * digest, names with the previous map, so neither depends on a tracker or on a
 * time stamp. Memory: about 100 bytes and its name for each file.
 */
#ifndef NEAP_JOB_TREE_H
#define NEAP_JOB_TREE_H

#include <pthread.h>

#include "agent/job/needed.h"
#include "agent/job/plan.h"
#include "agent/store/map.h"
#include "kmod-free/io/extents.h"
#include "kmod-free/track/blockmap.h"

struct tree_file {
	char *rel;     /* below its volume's view */
	bool image;    /* it is the view itself; rel is "", ino 0 */
	size_t volume; /* of the plan */
	uint64_t ino;
	uint64_t object;
	uint64_t size;
	size_t slot;                       /* in the block map's update */
	const struct blockmap_object *old; /* NULL: new as a whole */
};

struct tree {
	const struct plan *plan;
	int *view; /* descriptors, one for each volume: folders, or the image */
	/* What the file system in an image uses, of object 0; one for each
	 * volume, see tree_used. */
	struct extents *used;
	struct blockmap *blockmap; /* an update has begun */
	struct map_builder *map;
	pthread_mutex_t map_lock;  /* map_builder is one thread's at a time */
	struct map_view *previous; /* or NULL: everything is new */
	uint64_t next_object;

	struct tree_file *file;
	size_t files, cap;
	uint64_t objects, bytes; /* all of them; sum of the files' sizes */
	uint64_t vanished;       /* live volumes only */

	struct needed needed;              /* of the engine's log */
	uint64_t left_out, left_out_bytes; /* files that it has besides */
};

/* Sets up {0}-initialised members that the caller did not; opens the views of
 * snapshot `name`. */
int tree_open(
    struct tree *t, const struct plan *p, const char *snapshot, struct err *e);
int tree_walk(struct tree *t, struct err *e);
void tree_leave(struct tree *t); /* closes the views; the list stays */
void tree_close(struct tree *t);
#define SCOPED_TREE __attribute__((cleanup(tree_close)))

/* What of an image is in use, of object 0; NULL: all of the file. */
const struct extents *tree_used(
    const struct tree *t, const struct tree_file *f);

/* "PATH" on the host of a file, for messages; gives. */
char *tree_path(const struct tree *t, const struct tree_file *f);

#endif
