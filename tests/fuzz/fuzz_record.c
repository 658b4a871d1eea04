/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The members of a backup record and, behind a zero byte, of a proof: JSON
 * that was sealed by somebody with the key, put into a repository in memory
 * and read as `neap status` and every reader of a backup do.
 */
#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/job/health.h"
#include "agent/store/doc.h"
#include "tests/fuzz/fuzz.h"

#define TIME "20261122T191517Z"
#define RECORD "backups/docs/" TIME
#define PROOF "proofs/docs/" TIME "/" TIME

/* ---- a repository of two files ---- */

static struct mem_file {
	const char *name;
	struct buf body;
	bool there;
} files[2] = {{.name = RECORD}, {.name = PROOF}};
static struct buf putting;
static struct repo_put put;

static struct mem_file *
file_of(const char *name)
{
	for (size_t i = 0; i < MEM_COUNT(files); i++)
		if (strcmp(files[i].name, name) == 0)
			return &files[i];
	return NULL;
}

static int
mem_put_begin(struct repo *r, struct repo_put **out, struct err *e)
{
	(void)e;
	put.repo = r;
	buf_clear(&putting);
	*out = &put;
	return 0;
}

static int
mem_put_write(struct repo_put *p, struct span bytes, struct err *e)
{
	(void)p;
	(void)e;
	buf_put(&putting, bytes.data, bytes.len);
	return 0;
}

static int
mem_put_commit(struct repo_put *p, const char *name, struct err *e)
{
	struct mem_file *f = file_of(name);

	(void)p;
	(void)e;
	MUST(f != NULL && !f->there);
	buf_clear(&f->body);
	buf_put(&f->body, putting.data, putting.len);
	f->there = true;
	return 0;
}

static void
mem_put_abort(struct repo_put *p)
{
	(void)p;
}

static int
mem_size(struct repo *r, const char *name, uint64_t *len, struct err *e)
{
	const struct mem_file *f = file_of(name);

	(void)r;
	if (f == NULL || !f->there)
		return err_set(e, -ENOENT, "not there");
	*len = f->body.len;
	return 0;
}

static int
mem_get(struct repo *r, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	uint64_t size = 0;
	int rc = mem_size(r, name, &size, e);

	if (rc < 0)
		return rc;
	if (off > size || len > size - off)
		return err_set(e, -EBADMSG, "behind its end");
	memcpy(to, file_of(name)->body.data + off, len);
	return 0;
}

static int
mem_list(struct repo *r, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e)
{
	int rc = 0;

	(void)r;
	for (size_t i = 0; i < MEM_COUNT(files) && rc == 0; i++)
		if (files[i].there &&
		    strncmp(files[i].name, prefix, strlen(prefix)) == 0)
			rc = fn(arg, files[i].name, files[i].body.len, e);
	return rc;
}

static const struct repo_ops ops = {.scheme = "mem",
    .put_begin = mem_put_begin,
    .put_write = mem_put_write,
    .put_commit = mem_put_commit,
    .put_abort = mem_put_abort,
    .get = mem_get,
    .size = mem_size,
    .list = mem_list};
static struct repo repo = {.ops = &ops, .url = (char *)"mem"};
static struct store store = {.repo = &repo};

/* ---- reading it ---- */

static void
store_doc(const char *kind, const char *name, struct span text)
{
	struct err e = ERR_NONE;
	SCOPED_JSON json_t *j = jdoc_parse(text, &e);

	file_of(name)->there = false;
	if (j != NULL)
		MUST(doc_put(&repo, &store.keys, kind, name, j, &e) == 0);
}

static void
read_record(void)
{
	SCOPED_JSON json_t *record = NULL, *again = NULL;
	SCOPED_FREE struct map_ref *maps = NULL;
	struct err e = ERR_NONE;
	size_t n;

	if (catalog_get(&repo, &store.keys, "docs", TIME, &record, &e) < 0)
		return;
	MUST(json_is_object(record));
	if (catalog_maps(record, &maps, &n, &e) < 0)
		return;
	MUST(n > 0);
	again = json_pack("{s:o}", "maps", catalog_maps_json(maps, n));
	free(TAKE(maps));
	MUST(catalog_maps(again, &maps, &n, &e) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct conf conf = {.state_dir = (char *)"/nowhere"};
	const struct conf_job job = {.name = (char *)"docs",
	    .engine = (char *)"files",
	    .schedule = (char *)"*:0/15"};
	size_t first = strnlen((const char *)data, len);
	size_t second = first < len ? first + 1 : len;
	SCOPED_JSON json_t *doc = NULL;
	SCOPED_FREE char *line = NULL;
	struct err e = ERR_NONE;
	enum health worst;

	store_doc("record", RECORD, SPAN(data, first));
	store_doc("proof", PROOF, SPAN(data + second, len - second));
	read_record();
	MUST(health_of(&conf, &job, &store, &doc, &worst, &e) == 0);
	/* Nothing that is said is ever a proof: the backup is old by now. */
	MUST(worst != HEALTH_OK);
	line = jdoc_line(doc);
	MUST(line[0] == '{');
	return 0;
}
