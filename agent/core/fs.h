/*
 * Files and folders: whole reads, durable writes, walking to a path. All
 * functions name the path in their error text. Paths are borrowed.
 */
#ifndef NEAP_CORE_FS_H
#define NEAP_CORE_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

void fs_close_scope(int *fd);
#define SCOPED_FD __attribute__((cleanup(fs_close_scope)))

/* All of it or an error; -EBADMSG when the file ends first. */
int fs_pread(int fd, void *p, size_t n, uint64_t off, struct err *e);
int fs_pwrite(int fd, const void *p, size_t n, uint64_t off, struct err *e);

/* A whole file, appended to `out`; -EFBIG above `max` bytes. Or nothing. */
int fs_read_at(
    int dirfd, const char *path, size_t max, struct buf *out, struct err *e);
/*
 * Put a file in place durably: temporary, fsync, rename, fsync of its folder.
 * An older file of that name is replaced whole or not at all.
 */
int fs_replace_at(
    int dirfd, const char *path, struct span body, mode_t mode, struct err *e);

int fs_mkdirs(const char *path, mode_t mode, struct err *e);
int fs_mkdirs_at(int dirfd, const char *path, mode_t mode, struct err *e);
int fs_sync_dir_at(int dirfd, const char *path, struct err *e);
/*
 * Remove a tree; absent is success. -EXDEV, and nothing more is removed, where
 * it comes upon a mount, also of the same file system, or a subvolume.
 */
int fs_remove_tree_at(int dirfd, const char *path, struct err *e);

/* "a/b" from two parts, one slash between; gives. */
char *fs_join(const char *a, const char *b);
/* Absolute, without symlinks; gives, NULL with the error set. */
char *fs_real(const char *path, struct err *e);
/* `path` equals `dir` or lies below it (both absolute and clean). */
bool fs_below(const char *path, const char *dir);
/* The folder in which the running program lies; gives. */
char *fs_program_dir(void);
/* "12.3 MB" from bytes (powers of 1000), in a caller's buffer of 32. */
const char *fs_size_text(char out[32], uint64_t bytes);

#endif
