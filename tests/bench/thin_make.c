/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thin-make FILE MAPPINGS CHANGES: the metadata of a pool with a volume (1) and
 * a snapshot of it (2) that share all nodes but those on the way to CHANGES
 * blocks, as the kernel leaves it. Blocks lie in the pool in runs of eight.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "tests/unit/track/thin_build.h"

#define FIT 252 /* entries of a node */
#define RUN 8u
#define NEW (1u << 25)

/* Marsaglia's xorshift64. */
static uint64_t
any(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

int
main(int argc, char **argv)
{
	SCOPED_FD int fd = -1;
	uint64_t n, changes, root, state = 88172645463325252ull, at = 1;
	SCOPED_FREE uint64_t *key = NULL, *value = NULL;
	struct thin_build b;

	if (argc != 4)
		return 2;
	n = strtoull(argv[2], NULL, 10);
	changes = strtoull(argv[3], NULL, 10);
	fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || n == 0)
		return 1;
	key = mem_array(n, sizeof *key);
	value = mem_array(n, sizeof *value);
	for (uint64_t i = 0; i < n; i++) {
		at += i % RUN == 0 ? 4 : 1;
		key[i] = i;
		value[i] = thin_build_value(at, 1);
	}
	/* A node a leaf, one above 252 of them, a path of four a change. */
	thin_build_init(
	    &b, fd, n / FIT + n / FIT / 100 + changes * 4 + 2000, FIT);
	root = tb_bulk(&b, key, value, n);
	thin_build_device(&b, 1, root, n);
	for (uint64_t i = 0; i < changes; i++)
		root = tb_put(
		    &b, root, any(&state, n), thin_build_value(NEW + 2 * i, 2));
	thin_build_device(&b, 2, root, n);
	thin_build_finish(&b);
	thin_build_fini(&b);
	return 0;
}
