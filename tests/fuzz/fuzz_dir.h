/*
 * A folder for targets whose parser reads files: in memory where that can be,
 * since they are written for each input. tests/fuzz/run says where in
 * NEAP_FUZZ_TMP and removes what a crash leaves; else it goes at the end.
 */
#ifndef NEAP_TESTS_FUZZ_FUZZ_DIR_H
#define NEAP_TESTS_FUZZ_FUZZ_DIR_H

#include <fcntl.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "tests/fuzz/fuzz.h"

static char *fuzz_dir_path;

static inline void
fuzz_dir_remove(void)
{
	struct err e = ERR_NONE;

	fs_remove_tree_at(AT_FDCWD, fuzz_dir_path, &e);
	free(fuzz_dir_path);
}

/* The same one for every input. */
static inline const char *
fuzz_dir(void)
{
	const char *in = getenv("NEAP_FUZZ_TMP");

	if (fuzz_dir_path != NULL)
		return fuzz_dir_path;
	if (in == NULL)
		in = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	fuzz_dir_path = mem_printf("%s/neap-fuzz-XXXXXX", in);
	MUST(mkdtemp(fuzz_dir_path) != NULL);
	atexit(fuzz_dir_remove);
	return fuzz_dir_path;
}

static inline void
fuzz_dir_mkdirs(const char *name)
{
	SCOPED_FREE char *path = fs_join(fuzz_dir(), name);
	struct err e = ERR_NONE;

	MUST(fs_mkdirs(path, 0700, &e) == 0);
}

/* The file `name` in it; `size` may be longer than what is written. */
static inline void
fuzz_dir_put(const char *name, struct span bytes, off_t size)
{
	SCOPED_FREE char *path = fs_join(fuzz_dir(), name);
	SCOPED_FD int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	MUST(fd >= 0);
	MUST(write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len);
	MUST(ftruncate(fd, size) == 0);
}

#endif
