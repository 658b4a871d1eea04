/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount_presence.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "agent/core/mounts.h"

/* FNV-1a: paths are longer than socket names; a collision only waits longer. */
static socklen_t
address(struct sockaddr_un *a, const char *dir)
{
	uint64_t h = 0xcbf29ce484222325u;
	int n;

	for (; *dir != '\0'; dir++)
		h = (h ^ (uint8_t)*dir) * 0x100000001b3u;
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1,
	    "neap-mount-%016llx", (unsigned long long)h);
	return (
	    socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int
mount_presence_listen(const char *real_dir)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	socklen_t len = address(&a, real_dir);

	if (fd >= 0 &&
	    (bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 8) < 0)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int
mount_presence_connect(const char *real_dir)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	socklen_t len = address(&a, real_dir);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, len) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int
mount_presence_wait(int fd, int64_t wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, (int)wait_ms) > 0 ? 0 : -ETIMEDOUT;
}

char *
mount_presence_path(const char *dir)
{
	char *real = realpath(dir, NULL);
	size_t n = strlen(dir);

	if (real != NULL)
		return real;
	while (n > 1 && dir[n - 1] == '/')
		n--;
	return mem_strn(dir, n);
}

char *
mount_presence_device(const char *dir)
{
	SCOPED_MOUNTS struct mounts m = {0};
	const struct mounts_row *top = NULL;
	struct err ignored = ERR_NONE;

	mounts_load(&m, &ignored); /* as far as it could be read */
	for (size_t i = 0; i < m.n; i++)
		if (strcmp(m.v[i].point, dir) == 0)
			top = &m.v[i];
	return top == NULL || strcmp(top->type, "fuse.neap") != 0
		   ? NULL
		   : mem_str(top->dev);
}

bool
mount_presence_mounted(const char *dir)
{
	SCOPED_FREE char *dev = mount_presence_device(dir);

	return dev != NULL;
}
