/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that need a repository in a folder, keys, and dice. */
#ifndef NEAP_TESTS_STORE_PLACE_H
#define NEAP_TESTS_STORE_PLACE_H

#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <unistd.h>

#include "agent/store/repo.h"

struct place {
	char *dir;           /* of the repository */
	const char *scratch; /* the folder around it */
	struct repo *repo;
	struct keys keys;
};

/* `name`: the repository's folder below the scratch folder. */
static inline void
place_begin(
    struct place *p, const char *scratch, const char *name, bool encrypted)
{
	struct err e = ERR_NONE;

	memset(p, 0, sizeof *p);
	p->scratch = scratch;
	p->dir = mem_printf("%s/%s", scratch, name);
	OK(repo_open(&p->repo, p->dir, true, &e));
	OK(keys_generate(&p->keys, encrypted, &e));
}

static inline void
place_end(struct place *p)
{
	repo_close(p->repo);
	keys_wipe(&p->keys);
	free(p->dir);
}

struct dice {
	uint64_t x;
};

static inline uint64_t
dice_u64(struct dice *d)
{
	d->x += 0x9e3779b97f4a7c15u; /* splitmix64 */
	uint64_t z = d->x;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint32_t
dice_below(struct dice *d, uint32_t n)
{
	return (uint32_t)(dice_u64(d) % n);
}

#endif
