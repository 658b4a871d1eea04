/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library to preload into a PostgreSQL server, whose log is written by a
 * process of its own: at "redo starts" that one waits until the server is
 * ready, and a second more. What of the server's state it saw then, the last
 * line of postmaster.pid, is left in a file "late" in the server's folder.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
wait_until_ready(void)
{
	char line[256] = "";
	FILE *f;

	for (int i = 0; i < 600 && strncmp(line, "ready", 5) != 0; i++) {
		usleep(100000);
		f = fopen("postmaster.pid", "r");
		while (f != NULL && fgets(line, sizeof line, f) != NULL)
			;
		if (f != NULL)
			fclose(f);
	}
	sleep(1);
	f = fopen("late", "w");
	if (f != NULL && fputs(line, f) >= 0)
		fclose(f);
}

size_t
fwrite(const void *data, size_t size, size_t n, FILE *to)
{
	static size_t (*next)(const void *, size_t, size_t, FILE *);
	const char redo[] = "redo starts";

	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "fwrite");
	if (next == NULL)
		abort();
	if (memmem(data, size * n, redo, strlen(redo)) != NULL)
		wait_until_ready();
	return next(data, size, n, to);
}
