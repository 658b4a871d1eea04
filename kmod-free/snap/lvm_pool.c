/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/lvm_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/dm.h"

/* Of the host, whatever jobs and configurations there are; and kept over a
 * restart, as reservations are. */
#define NOTES "/var/lib/neap/pools"

struct lvm_pool {
	char *dm_uuid; /* of the "-tpool" device, which takes messages */
	char *note;    /* path */
	int lock;      /* the note, locked */
	int metadata;  /* descriptor */
	bool held;
};

/* ---- what the pool says --------------------------------------------------------- */

struct pool_state {
	uint64_t used, all; /* metadata blocks */
	uint64_t held;      /* block of the held root; 0: none */
};

/* "TRANSACTION USED/ALL DATA/ALL HELD …", HELD a block or "-"
 * (Documentation/admin-guide/device-mapper/thin-provisioning.rst). */
static bool
parse_state(const char *words, struct pool_state *s)
{
	uint64_t transaction;

	if (!dm_take_number(&words, ' ', &transaction) ||
	    !dm_take_number(&words, '/', &s->used) ||
	    !dm_take_number(&words, ' ', &s->all) || s->all == 0)
		return false;
	words += strcspn(words, " ");
	words += strspn(words, " ");
	s->held = 0;
	return (words[0] == '-' && (words[1] == ' ' || words[1] == '\0')) ||
	       dm_take_number(&words, ' ', &s->held);
}

static int
read_state(const struct lvm_pool *p, struct pool_state *s, struct err *e)
{
	SCOPED_FREE char *type = NULL, *words = NULL;
	int rc = dm_status(p->dm_uuid, &type, &words, e);

	if (rc < 0)
		return rc;
	if (strcmp(type, "thin-pool") != 0 || !parse_state(words, s))
		return err_set(e, -ESTALE,
		    "the pool is in trouble: its status is \"%s %s\"", type,
		    words);
	return 0;
}

/* ---- whose reservation it is ------------------------------------------------------ */

/* The note says which root we hold; 0: none. */
static uint64_t
read_note(const struct lvm_pool *p)
{
	char text[24] = "";
	const char *s = text;
	uint64_t root;

	if (pread(p->lock, text, sizeof text - 1, 0) <= 0 ||
	    !dm_take_number(&s, '\n', &root))
		return 0;
	return root;
}

static int
write_note(const struct lvm_pool *p, uint64_t root, struct err *e)
{
	char text[24] = "";
	int rc = 0;

	if (root != 0)
		snprintf(text, sizeof text, "%llu\n", (unsigned long long)root);
	if (ftruncate(p->lock, 0) < 0)
		return err_sys(e, errno, "write note %s", p->note);
	if (root != 0)
		rc = fs_pwrite(p->lock, text, strlen(text), 0, e);
	if (rc == 0 && fsync(p->lock) < 0)
		return err_sys(e, errno, "write note %s", p->note);
	return rc < 0 ? err_wrap(e, "write note %s", p->note) : 0;
}

static int
open_note(struct lvm_pool *p, const char *pool_uuid, struct err *e)
{
	int rc = fs_mkdirs(NOTES, 0700, e);

	if (rc < 0)
		return rc;
	p->note = fs_join(NOTES, pool_uuid);
	p->lock =
	    open(p->note, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->lock < 0)
		return err_sys(e, errno, "open note %s", p->note);
	if (flock(p->lock, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(e, -EBUSY,
		    "another process of neap reads the pool's metadata now");
	return err_sys(e, errno, "lock note %s", p->note);
}

/* ---- holding it --------------------------------------------------------------------- */

/* What an earlier run left, if it is ours by the note. */
static int
settle_old(struct lvm_pool *p, struct pool_state *s, struct err *e)
{
	uint64_t noted = read_note(p);
	int rc;

	if (s->held == 0)
		return noted != 0 ? write_note(p, 0, e) : 0;
	if (s->held != noted) {
		err_set(e, -ESTALE,
		    "somebody else holds a metadata snapshot of the pool "
		    "(block "
		    "%llu)",
		    (unsigned long long)s->held);
		return err_hint(e,
		    "if nothing that uses thin_delta or the like "
		    "runs, `dmsetup message POOL-tpool 0 "
		    "release_metadata_snap` lets it go");
	}
	rc = dm_message(p->dm_uuid, "release_metadata_snap", e);
	if (rc == 0)
		rc = write_note(p, 0, e);
	return rc < 0 ? rc : read_state(p, s, e);
}

static int
reserve(struct lvm_pool *p, struct err *e)
{
	struct pool_state s;
	int rc = read_state(p, &s, e);

	if (rc == 0)
		rc = settle_old(p, &s, e);
	if (rc < 0)
		return rc;
	if (s.used >= s.all / 100 * LVM_METADATA_FULL_PERCENT)
		return err_set(e, -ESTALE,
		    "the pool's metadata is nearly full (%llu of %llu blocks): "
		    "a snapshot of it could fill it",
		    (unsigned long long)s.used, (unsigned long long)s.all);
	rc = dm_message(p->dm_uuid, "reserve_metadata_snap", e);
	if (rc == -EBUSY)
		return err_set(e, -ESTALE,
		    "somebody else has just taken the pool's metadata "
		    "snapshot");
	if (rc < 0)
		return rc;
	p->held = true;
	rc = read_state(p, &s, e);
	if (rc == 0 && s.held == 0)
		rc = err_set(e, -ESTALE,
		    "the pool holds no metadata snapshot though it was asked");
	return rc < 0 ? rc : write_note(p, s.held, e);
}

static int
open_metadata(struct lvm_pool *p, const struct lvm_lv *pool, struct err *e)
{
	struct lvm_lv metadata = {0};
	SCOPED_FREE char *uuid = NULL;
	dev_t dev;
	int rc;

	memcpy(metadata.vg_uuid, pool->vg_uuid, sizeof metadata.vg_uuid);
	memcpy(metadata.uuid, pool->metadata_uuid, sizeof metadata.uuid);
	uuid = lvm_dm_uuid(&metadata, "tmeta");
	rc = dm_device(uuid, &dev, e);
	if (rc == -ENOENT || rc == -ENXIO)
		return err_set(e, -ESTALE, "the pool is not active");
	if (rc < 0)
		return rc;
	/* Direct: what the kernel has written itself is not in the cache. */
	p->metadata = dm_open(dev, O_DIRECT, e);
	return p->metadata < 0 ? p->metadata : 0;
}

int
lvm_pool_hold(struct lvm_pool **out, const struct lvm_volume *v, struct err *e)
{
	SCOPED_LVM_LV struct lvm_lv pool = {0};
	struct err later = ERR_NONE;
	struct lvm_pool *p;
	int rc = lvm_volume_pool(v, &pool, e);

	if (rc < 0)
		return rc;
	p = mem_new(sizeof *p);
	p->lock = p->metadata = -1;
	p->dm_uuid = lvm_dm_uuid(&pool, "tpool");
	rc = open_note(p, pool.uuid, e);
	if (rc == 0)
		rc = open_metadata(p, &pool, e);
	if (rc == 0)
		rc = reserve(p, e);
	if (rc == 0) {
		*out = p;
		return 0;
	}
	if (lvm_pool_release(p, &later) < 0)
		err_hint(e, "and %s", later.text);
	return err_wrap(e, "pool %s/%s", pool.vg, pool.name);
}

int
lvm_pool_metadata(const struct lvm_pool *p)
{
	return p->metadata;
}

int
lvm_pool_release(struct lvm_pool *p, struct err *e)
{
	int rc = 0;

	if (p == NULL)
		return 0;
	if (p->metadata >= 0)
		close(p->metadata);
	if (p->held)
		rc = dm_message(p->dm_uuid, "release_metadata_snap", e);
	if (rc == 0 && p->held)
		rc = write_note(p, 0, e);
	if (p->lock >= 0)
		close(p->lock);
	free(p->dm_uuid);
	free(p->note);
	free(p);
	return rc < 0 ? err_wrap(e, "let the pool's metadata go") : 0;
}
