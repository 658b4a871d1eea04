/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "tools/overlay_parts.h"

/* The blocks of a file, made now if it has none. Write lock held. */
struct cow *
overlay_cow(struct overlay *ov, struct overlay_node *n)
{
	struct cow *c = atomic_load(&n->cow);

	if (c == NULL) {
		c = cow_new(ov->how.content, n->in_backup ? n->ino : 0,
		    n->o.size, ov->how.scratch_fd);
		atomic_store(&n->cow, c);
		if (!n->changed)
			overlay_now(&n->ctime);
		n->changed = true;
	}
	return c;
}

int
overlay_open(
    struct overlay *ov, uint64_t ino, bool writes, struct overlay_file **out)
{
	struct overlay_file *f = mem_new(sizeof *f);
	struct stat st;
	int rc;

	f->ino = ino;
	f->writes = writes;
	if (overlay_writable(ov)) {
		pthread_rwlock_wrlock(&ov->lock);
		rc = overlay_node(ov, ino, &f->node);
		if (rc == 0) {
			f->node->opens++;
			f->node->writers += writes;
		}
		pthread_rwlock_unlock(&ov->lock);
	} else {
		rc = overlay_stat(ov, ino, &st);
		if (rc == 0)
			f->size = (uint64_t)st.st_size;
	}
	if (rc < 0) {
		free(f);
		return rc;
	}
	*out = f;
	return 0;
}

void
overlay_close(struct overlay *ov, struct overlay_file *f)
{
	if (f->node != NULL) {
		pthread_rwlock_wrlock(&ov->lock);
		f->node->opens--;
		f->node->writers -= f->writes;
		overlay_settle(ov, f->node);
		pthread_rwlock_unlock(&ov->lock);
	}
	free(f);
}

ssize_t
overlay_read(struct overlay *ov, struct overlay_file *f, uint64_t off, void *to,
    size_t len)
{
	struct cow *c = f->node != NULL ? atomic_load(&f->node->cow) : NULL;
	uint64_t size = f->node != NULL ? f->node->o.size : f->size;
	struct err e = ERR_NONE;
	ssize_t rc;

	if (c != NULL) {
		content_follow(ov->how.content, &f->stream, f->ino, off, len,
		    f->node->in_backup ? cow_size(c) : 0);
		rc = cow_read(c, off, to, len, &e);
		return rc < 0 ? overlay_fail(ov, f->ino, off, &e) : rc;
	}
	if (off >= size)
		return 0;
	if (len > size - off)
		len = (size_t)(size - off);
	content_follow(ov->how.content, &f->stream, f->ino, off, len, size);
	if (content_read(ov->how.content, f->ino, off, to, len, &e) < 0)
		return overlay_fail(ov, f->ino, off, &e);
	return (ssize_t)len;
}

int
overlay_seek(struct overlay *ov, struct overlay_file *f, uint64_t off,
    int whence, uint64_t *at)
{
	bool data = whence == SEEK_DATA, touched = false;
	uint64_t size = f->size;
	struct err e = ERR_NONE;

	if (f->node != NULL) {
		struct cow *c;

		pthread_rwlock_rdlock(&ov->lock);
		c = atomic_load(&f->node->cow);
		size = c != NULL ? cow_size(c) : f->node->o.size;
		touched = c != NULL || f->node->writers > 0;
		pthread_rwlock_unlock(&ov->lock);
	}
	if (off >= size)
		return -ENXIO;
	if (touched) {
		*at = data ? off : size;
		return 0;
	}
	if (content_seek(ov->how.content, f->ino, off, size, data, at, &e) < 0)
		return overlay_fail(ov, f->ino, off, &e);
	return data && *at == size ? -ENXIO : 0;
}

static int
need_cow(struct overlay *ov, struct overlay_file *f, struct cow **out)
{
	if (f->node == NULL)
		return -EROFS;
	*out = atomic_load(&f->node->cow);
	if (*out == NULL) {
		pthread_rwlock_wrlock(&ov->lock);
		*out = overlay_cow(ov, f->node);
		pthread_rwlock_unlock(&ov->lock);
	}
	return 0;
}

int
overlay_write(struct overlay *ov, struct overlay_file *f, uint64_t off,
    const void *from, size_t len)
{
	struct err e = ERR_NONE;
	struct cow *c;
	int rc = need_cow(ov, f, &c);

	if (rc == 0 && cow_write(c, off, from, len, &e) < 0)
		return overlay_fail(ov, f->ino, off, &e);
	return rc;
}

int
overlay_fallocate(struct overlay *ov, struct overlay_file *f, int mode,
    uint64_t off, uint64_t len)
{
	const int known =
	    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct err e = ERR_NONE;
	struct cow *c;
	int rc;

	if ((mode & ~known) != 0)
		return -EOPNOTSUPP;
	if (len == 0 || off > INT64_MAX - len)
		return -EINVAL;
	rc = need_cow(ov, f, &c);
	if (rc < 0)
		return rc;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
		rc = cow_zero(c, off, len, &e);
	if (rc == 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0)
		rc = cow_extend(c, off + len, &e);
	return rc < 0 ? overlay_fail(ov, f->ino, off, &e) : 0;
}
