/* SPDX-License-Identifier: Apache-2.0 */
/* What the file system of a device uses, for tests/system/used.sh:
 *   used-of DEVICE xfs|ext4      lines "FROM LENGTH" */
#include <fcntl.h>
#include <stdio.h>

#include "agent/core/fs.h"
#include "kmod-free/snap/used.h"

int
main(int argc, char **argv)
{
	SCOPED_EXTENTS struct extents used = {0};
	SCOPED_FD int fd = argc == 3 ? open(argv[1], O_RDONLY) : -1;
	struct err e = ERR_NONE;

	if (fd < 0) {
		fprintf(stderr, "usage: used-of DEVICE xfs|ext4\n");
		return 2;
	}
	if (used_find(fd, argv[2], &used, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	for (size_t i = 0; i < used.n; i++)
		printf("%llu %llu\n", (unsigned long long)used.v[i].off,
		    (unsigned long long)used.v[i].len);
	return 0;
}
