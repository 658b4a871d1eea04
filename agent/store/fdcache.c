/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/fdcache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/mem.h"

void
fdcache_init(struct fdcache *c, int dirfd)
{
	*c = (struct fdcache){.dirfd = dirfd};
	pthread_mutex_init(&c->lock, NULL);
}

static void
drop(struct fdcache_file *f)
{
	close(f->fd);
	free(f->name);
	*f = (struct fdcache_file){0};
}

void
fdcache_fini(struct fdcache *c)
{
	for (int i = 0; i < FDCACHE_FILES; i++)
		if (c->file[i].name != NULL)
			drop(&c->file[i]);
	pthread_mutex_destroy(&c->lock);
}

/* With the lock held, as all below. */
static int
find(const struct fdcache *c, const char *name)
{
	for (int i = 0; i < FDCACHE_FILES; i++)
		if (c->file[i].name != NULL &&
		    strcmp(c->file[i].name, name) == 0)
			return i;
	return -1;
}

/* A free slot, or the one unused for longest; -1: all are on loan. */
static int
room(struct fdcache *c)
{
	int best = -1;

	for (int i = 0; i < FDCACHE_FILES; i++) {
		const struct fdcache_file *f = &c->file[i];

		if (f->name == NULL)
			return i;
		if (f->users == 0 && (best < 0 || f->used < c->file[best].used))
			best = i;
	}
	if (best >= 0)
		drop(&c->file[best]);
	return best;
}

static int
lend(struct fdcache *c, int slot)
{
	c->file[slot].users++;
	c->file[slot].used = ++c->tick;
	return c->file[slot].fd;
}

int
fdcache_get(struct fdcache *c, const char *name, struct fdcache_loan *out,
    struct err *e)
{
	struct fdcache_loan l = {-1, -1};

	pthread_mutex_lock(&c->lock);
	l.slot = find(c, name);
	if (l.slot >= 0)
		l.fd = lend(c, l.slot);
	pthread_mutex_unlock(&c->lock);

	/* Opened without the lock: on a slow disk this is a seek. Two threads
	 * may then both cache the same name, which does no harm. */
	if (l.slot < 0) {
		l.fd =
		    openat(c->dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (l.fd < 0)
			return err_sys(e, errno, "open");
		pthread_mutex_lock(&c->lock);
		l.slot = room(c);
		if (l.slot >= 0) {
			c->file[l.slot].name = mem_str(name);
			c->file[l.slot].fd = l.fd;
			lend(c, l.slot);
		}
		pthread_mutex_unlock(&c->lock);
	}
	*out = l;
	return 0;
}

void
fdcache_put(struct fdcache *c, struct fdcache_loan loan)
{
	if (loan.slot < 0) {
		close(loan.fd);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->file[loan.slot].users--;
	pthread_mutex_unlock(&c->lock);
}

void
fdcache_forget(struct fdcache *c, const char *name)
{
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < FDCACHE_FILES; i++) {
		struct fdcache_file *f = &c->file[i];

		if (f->name != NULL && f->users == 0 &&
		    strcmp(f->name, name) == 0)
			drop(f);
	}
	pthread_mutex_unlock(&c->lock);
}
