/*
 * What a backup of a database of many terabytes leaves on the host and in the
 * repository, made without reading one: for `make scale`. The database is a
 * file of SEED bytes that was really backed up, and has since grown by clones
 * of them. So all of its blocks are data that can be read, hashed and restored
 * although the disk holds a few hundred megabytes; and everything that neap
 * keeps of them (base map, index, packs' names, block map) has its real size.
 *
 * Never part of an installation: it writes what only a backup may write.
 */
#ifndef NEAP_SCALE_H
#define NEAP_SCALE_H

#include "agent/job/state.h"
#include "agent/store/store.h"
#include "kmod-free/track/blockmap.h"

struct scale {
	const struct conf *conf;
	const struct conf_job *job;
	const char *path; /* of the database */
	uint64_t seed;    /* bytes that the last backup has of it */
	uint64_t size;    /* bytes that it has now */

	struct state state;
	struct store store;
	char parent[20]; /* the real backup: TIME */
	json_t *record;  /* its record; becomes the new one */
	struct map_ref old_map, map;
	uint64_t object;
	char time[20]; /* of the backup that is made up */

	uint64_t packs, index_bytes, hash_bytes;
};

/* The base map: the old one, with the seed's extents again and again. */
int scale_map(struct scale *s, struct err *e);
/* A segment of as many chunks as the new blocks would make, and their packs,
 * which are empty files: nothing refers to them. */
int scale_index(struct scale *s, struct err *e);
/* The block map to be: everything of it but the hashes of what is new. */
int scale_prepare(struct scale *s, struct blockmap *b, struct err *e);
/* Those hashes; `b` is the map after its commit. */
int scale_hashes(struct scale *s, struct blockmap *b, struct err *e);

/* Good enough for made-up ids (splitmix64). */
uint64_t scale_random(uint64_t *state);

#endif
