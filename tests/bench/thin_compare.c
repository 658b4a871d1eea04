/* SPDX-License-Identifier: Apache-2.0 */
/* thin-compare METADATA FROM TO: in how many blocks two devices of a thin pool
 * differ, by neap's reader. METADATA is a file or a device that nobody
 * writes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/fs.h"
#include "kmod-free/track/thin_meta.h"

static int
count(void *arg, enum thin_meta_side side, uint64_t first, uint64_t n,
    struct err *e)
{
	(void)side;
	(void)first;
	(void)e;
	*(unsigned long long *)arg += n;
	return 0;
}

int
main(int argc, char **argv)
{
	SCOPED_THIN_META struct thin_meta *m = NULL;
	SCOPED_FD int fd = -1;
	struct err e = ERR_NONE;
	struct thin_meta_info info;
	unsigned long long blocks = 0;
	int rc;

	if (argc != 4)
		return 2;
	fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	rc = thin_meta_open(&m, fd, false, &e);
	if (rc == 0)
		rc = thin_meta_compare(m, (uint32_t)strtoul(argv[2], NULL, 10),
		    (uint32_t)strtoul(argv[3], NULL, 10), count, &blocks, &e);
	if (rc < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	thin_meta_info(m, &info);
	printf("{\"blocks\": %llu, \"reads\": %llu}\n", blocks,
	    (unsigned long long)info.reads);
	return 0;
}
