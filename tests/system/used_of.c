/* SPDX-License-Identifier: Apache-2.0 */
/* What the file system of a device uses, for tests/system/used.sh:
 *   used-of DEVICE      lines "FROM LENGTH" */
#include <fcntl.h>
#include <stdio.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/image.h"
#include "kmod-free/snap/used.h"

int
main(int argc, char **argv)
{
	SCOPED_EXTENTS struct extents used = {0};
	SCOPED_FD int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	struct snap_volume v = {0};
	struct err e = ERR_NONE;
	int rc;

	if (fd < 0) {
		fprintf(stderr, "usage: used-of DEVICE\n");
		return 2;
	}
	rc = image_probe(&v, fd, &e);
	if (rc == 0)
		rc = used_find(fd, v.image.size, v.fs_type, &used, &e);
	free(v.fs_type);
	free(v.fs_uuid);
	image_fini(&v.image);
	if (rc < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	for (size_t i = 0; i < used.n; i++)
		printf("%llu %llu\n", (unsigned long long)used.v[i].off,
		    (unsigned long long)used.v[i].len);
	return 0;
}
