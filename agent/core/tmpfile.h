/*
 * A file that has no name until it is whole and on disk.
 *
 * O_TMPFILE where the file system has it, so that a kill leaves nothing; a
 * named ".tmp-PID-RANDOM" elsewhere, which the scope removes. commit gives the
 * name once (-EEXIST where it is taken), replace gives it over an older file.
 * Both fsync the bytes first; making the *name* durable is the caller's, by
 * fs_sync_dir_at, so that one folder sync can serve many files.
 */
#ifndef NEAP_CORE_TMPFILE_H
#define NEAP_CORE_TMPFILE_H

#include <stdint.h>
#include <sys/types.h>

#include "agent/core/err.h"

struct tmpfile {
	int fd;        /* read and write; -1 when there is none */
	int dirfd;     /* of the folder in which it lies; owned */
	char name[64]; /* "" with O_TMPFILE */
	uint64_t len;  /* bytes written by tmpfile_write */
};

#define TMPFILE_NONE                                                           \
	{                                                                      \
		.fd = -1, .dirfd = -1                                          \
	}

/* Make one in folder `dir` (relative to `dirfd`, or AT_FDCWD). */
int tmpfile_open(
    struct tmpfile *t, int dirfd, const char *dir, mode_t mode, struct err *e);
int tmpfile_write(struct tmpfile *t, const void *p, size_t n, struct err *e);
/* `path` is relative to `dirfd` and on the same file system. */
int tmpfile_commit(
    struct tmpfile *t, int dirfd, const char *path, struct err *e);
int tmpfile_replace(
    struct tmpfile *t, int dirfd, const char *path, struct err *e);
void tmpfile_close(struct tmpfile *t); /* drops what was not committed */
#define SCOPED_TMPFILE __attribute__((cleanup(tmpfile_close)))

/*
 * Remove named leftovers in `dir` whose process is gone (same host only:
 * the name carries the boot id's first bytes). Returns how many.
 */
int tmpfile_reap(int dirfd, const char *dir, struct err *e);

#endif
