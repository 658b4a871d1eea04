/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a block map. `objects` stands for itself; what `hashes` and
 * `redo` have to be is written in the `objects` beside them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/io/reader.h"
#include "kmod-free/track/blockmap_internal.h"
#include "tools/inspect/inspect.h"

#define HEAD_BYTES 1024 /* of `objects` */
#define AT_REPO 16
#define AT_JOB 288

struct place {
	struct blockmap_place at;
	const char *name; /* of the file itself */
};

static void
place_fini(struct place *p)
{
	free(p->at.dir);
	if (p->at.dirfd >= 0)
		close(p->at.dirfd);
}
#define SCOPED_PLACE __attribute__((cleanup(place_fini)))

static int
place_of(struct place *p, const struct inspect *in, struct err *e)
{
	const char *slash = strrchr(in->path, '/');

	p->name = slash != NULL ? slash + 1 : in->path;
	p->at.dir = slash == in->path ? mem_str("/")
		    : slash != NULL
			? mem_strn(in->path, (size_t)(slash - in->path))
			: mem_str(".");
	p->at.dirfd = open(p->at.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->at.dirfd < 0 ? err_sys(e, errno, "open %s", p->at.dir) : 0;
}

/* Whose map it is stands in the header; the library asks to be told. */
static void
take_owner(struct place *p, const uint8_t head[HEAD_BYTES])
{
	memcpy(p->at.repo_id, head + AT_REPO, sizeof p->at.repo_id);
	memcpy(p->at.job, head + AT_JOB, sizeof p->at.job);
	p->at.job[sizeof p->at.job - 1] = '\0';
}

static void
list_objects(struct inspect *in, const struct blockmap_table *t)
{
	for (size_t i = 0; in->list && i < t->n; i++) {
		const struct blockmap_object *o = &t->v[i];
		json_t *row = json_object();

		json_object_set_new(row, "volume", json_integer(o->volume));
		json_object_set_new(
		    row, "inode", json_integer((json_int_t)o->ino));
		json_object_set_new(
		    row, "generation", json_integer((json_int_t)o->gen));
		json_object_set_new(
		    row, "object", json_integer((json_int_t)o->object));
		json_object_set_new(
		    row, "size", json_integer((json_int_t)o->size));
		json_object_set_new(
		    row, "page", json_integer((json_int_t)o->run_page));
		json_object_set_new(
		    row, "pages", json_integer((json_int_t)o->run_pages));
		inspect_row(in, row);
	}
}

int
inspect_objects(struct inspect *in, struct err *e)
{
	SCOPED_PLACE struct place p = {.at.dirfd = -1};
	struct blockmap_table t = {0};
	int rc = place_of(&p, in, e);

	if (rc < 0)
		return rc;
	if (in->len < HEAD_BYTES)
		return err_set(e, -EBADMSG,
		    "offset %llu: it ends inside its header",
		    (unsigned long long)in->len);
	take_owner(&p, in->head);
	inspect_say_hex(in, "repository", p.at.repo_id, sizeof p.at.repo_id);
	inspect_say_str(in, "job", p.at.job);
	rc = blockmap_table_load(&t, &p.at, p.name, e);
	if (rc < 0)
		return rc == -ESTALE ? (e->code = -EOPNOTSUPP) : rc;
	inspect_say_str(in, "backup", t.time[0] ? t.time : "none");
	inspect_say_int(in, "objects", t.n);
	inspect_say_int(in, "pages", t.pages);
	list_objects(in, &t);
	blockmap_table_fini(&t);
	return 0;
}

/* The table beside `hashes` or `redo`. */
static int
table_beside(struct place *p, struct blockmap_table *t, struct err *e)
{
	SCOPED_FD int fd =
	    openat(p->at.dirfd, BLOCKMAP_OBJECTS, O_RDONLY | O_CLOEXEC);
	uint8_t head[HEAD_BYTES];
	int rc;

	if (fd < 0)
		return err_set(e, -EKEYREJECTED,
		    "there is no file " BLOCKMAP_OBJECTS
		    " beside it, without which nothing can be told");
	rc = fs_pread(fd, head, sizeof head, 0, e);
	if (rc == 0) {
		take_owner(p, head);
		rc = blockmap_table_load(t, &p->at, BLOCKMAP_OBJECTS, e);
	}
	/* What is damaged then is that other file. */
	if (rc < 0) {
		e->code = -EKEYREJECTED;
		err_wrap(e, "cannot be checked: " BLOCKMAP_OBJECTS);
	}
	return rc < 0 ? e->code : 0;
}

static int
check_pages(
    struct inspect *in, struct blockmap_pages *p, uint64_t pages, struct err *e)
{
	uint64_t at = 0, stored = 0, bad = 0, end = pages * BLOCKMAP_PAGE_BYTES;
	struct err first = ERR_NONE;
	int rc = 0;

	while (at < end) {
		uint64_t start, len;
		const uint8_t *hashes;

		rc = reader_data_range(in->fd, at, end, &start, &len, e);
		if (rc <= 0)
			break;
		for (at = start; at < start + len; at += BLOCKMAP_PAGE_BYTES) {
			stored++;
			rc = blockmap_pages_get(
			    p, at / BLOCKMAP_PAGE_BYTES, &hashes, e);
			if (rc == -EBADMSG && bad++ == 0) {
				err_wrap(
				    e, "offset %llu", (unsigned long long)at);
				err_copy(&first, e);
			}
			if (rc < 0 && rc != -EBADMSG)
				return rc;
		}
	}
	if (rc < 0 && rc != -EBADMSG)
		return rc;
	inspect_say_int(in, "pages_stored", stored);
	inspect_say_int(in, "pages_damaged", bad);
	return bad > 0 ? err_copy(e, &first) : 0;
}

int
inspect_hashes(struct inspect *in, struct err *e)
{
	SCOPED_PLACE struct place p = {.at.dirfd = -1};
	struct blockmap_table t = {0};
	struct blockmap_pages pages = {.fd = -1};
	int rc = place_of(&p, in, e);

	if (rc == 0)
		rc = table_beside(&p, &t, e);
	if (rc < 0)
		return rc;
	inspect_say_str(in, "job", p.at.job);
	inspect_say_str(in, "backup", t.time[0] ? t.time : "none");
	inspect_say_int(in, "pages", t.pages);
	if (in->len < t.pages * BLOCKMAP_PAGE_BYTES) {
		rc = err_set(e, -EBADMSG,
		    "offset %llu: it ends here and has to have %llu bytes",
		    (unsigned long long)in->len,
		    (unsigned long long)(t.pages * BLOCKMAP_PAGE_BYTES));
	} else {
		blockmap_pages_init(&pages, in->fd, p.at.dir, t.secret);
		rc = check_pages(in, &pages, t.pages, e);
		blockmap_pages_fini(&pages);
	}
	blockmap_table_fini(&t);
	return rc;
}

int
inspect_redo(struct inspect *in, struct err *e)
{
	SCOPED_PLACE struct place p = {.at.dirfd = -1};
	struct blockmap_redo_head h;
	int rc = place_of(&p, in, e);

	if (rc == 0)
		rc = blockmap_redo_load(&h, &p.at, p.name, e);
	if (rc < 0)
		return rc;
	inspect_say_str(in, "backup", h.time);
	inspect_say_str(in, "backup_before", h.before[0] ? h.before : "none");
	inspect_say_int(in, "puts", h.puts);
	inspect_say_int(in, "moves", h.moves);
	inspect_say_int(in, "body_bytes", h.body_len);
	return blockmap_redo_check(&h, &p.at, p.name, e);
}
