/*
 * System calls on one object, for object_read and object_apply. Every call goes
 * to one O_PATH descriptor, either with AT_EMPTY_PATH or through its link under
 * /proc/self/fd, so that a name that changes meanwhile, or a symlink in its
 * place, is never followed. Internal to agent/store.
 */
#ifndef NEAP_STORE_OBJECT_SYS_H
#define NEAP_STORE_OBJECT_SYS_H

#include <sys/stat.h>

#include "agent/store/object.h"

/* Flags that a user can set and that the content does not already imply;
 * ended by a bit of 0. */
struct object_sys_flag {
	uint32_t bit;
	const char *word; /* with chattr(1)'s letter */
};
extern const struct object_sys_flag object_sys_flags[];
uint32_t object_sys_settable(void); /* all of them */

#define OBJECT_SYS_PATH_LEN 32
void object_sys_path(char out[OBJECT_SYS_PATH_LEN], int fd);
int object_sys_open_path(int dirfd, const char *name, struct err *e);
/* For ioctls: never waits, leaves the access time alone. Or -errno. */
int object_sys_open(int path_fd);
int object_sys_get_flags(int fd, uint32_t *flags); /* 0 or -errno */
int object_sys_set_flags(int fd, uint32_t flags);
int object_sys_type(mode_t mode, enum object_type *type); /* 0 or -EINVAL */

/* The names of the extended attributes, each with its NUL, into `out`. */
int object_sys_xattrs(const char *path, struct buf *out, struct err *e);
/* qsort's and bsearch's order of struct object_xattr. */
int object_sys_xattr_order(const void *a, const void *b);

#endif
