/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of files in a repository, a line each, as a listing gives them;
 * the first line is what a user asks for ("docs/latest").
 */
#include <errno.h>

#include "agent/core/clock.h"
#include "agent/store/catalog.h"
#include "tests/fuzz/fuzz.h"

static const char *names;

static int
mem_list(struct repo *r, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e)
{
	(void)r;
	(void)prefix;
	for (const char *p = names; *p != '\0';) {
		size_t n = strcspn(p, "\n");
		SCOPED_FREE char *name = mem_strn(p, n);
		int rc = n > 0 ? fn(arg, name, n, e) : 0;

		if (rc < 0)
			return rc;
		p += n + (p[n] == '\n');
	}
	return 0;
}

static int
mem_size(struct repo *r, const char *name, uint64_t *len, struct err *e)
{
	(void)r;
	(void)len;
	MUST(strlen(name) <= REPO_NAME_MAX);
	return err_set(e, -ENOENT, "not there");
}

static int
mem_get(struct repo *r, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	uint64_t n;

	(void)off;
	(void)to;
	(void)len;
	return mem_size(r, name, &n, e);
}

static void
must_be_a_backup(const struct catalog_entry *en)
{
	struct err e = ERR_NONE;
	char time[CLOCK_NAME_LEN + 1];

	MUST(catalog_check_job(en->job, &e) == 0);
	MUST(strchr(en->job, '/') == NULL);
	clock_name(time, en->utc_s);
	MUST(strcmp(time, en->time) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct repo_ops ops = {.scheme = "mem",
	    .get = mem_get,
	    .size = mem_size,
	    .list = mem_list};
	static const struct keys keys;
	struct repo repo = {.ops = &ops, .url = (char *)"mem"};
	SCOPED_FREE char *text = mem_strn((const char *)data, len);
	size_t first = strcspn(text, "\n");
	SCOPED_FREE char *asked = mem_strn(text, first);
	SCOPED_CATALOG struct catalog_list l = {0};
	struct catalog_entry found;
	struct err e = ERR_NONE;
	json_t *proof = NULL;
	int rc;

	names = text + first + (text[first] == '\n');
	MUST(catalog_list(&repo, NULL, &l, &e) == 0);
	for (size_t i = 0; i < l.n; i++) {
		must_be_a_backup(&l.v[i]);
		if (i > 0)
			MUST(strcmp(l.v[i - 1].job, l.v[i].job) <= 0);
	}
	rc = catalog_resolve(&repo, asked, &found, &e);
	MUST(rc == 0 || rc == -ENOENT || rc == -EINVAL);
	if (rc == 0)
		must_be_a_backup(&found);
	MUST(catalog_last_proof(&repo, &keys, "docs", NULL, &proof, &e) <= 0);
	return 0;
}
