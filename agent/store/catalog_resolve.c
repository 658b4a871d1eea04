/* SPDX-License-Identifier: Apache-2.0 */
/* From what a user types to one backup. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/catalog.h"

#define LATEST "latest"
#define NAMED_IN_ERROR 5

/* Position of the job's newest backup; -1: it has none. */
static int64_t
latest_of(const struct catalog_list *l, const char *job, size_t len)
{
	for (size_t i = l->n; i-- > 0;) {
		if (strncmp(l->v[i].job, job, len) == 0 &&
		    l->v[i].job[len] == '\0')
			return (int64_t)i;
	}
	return -1;
}

static bool
has_prefix(const struct catalog_entry *en, const char *spec)
{
	char name[CATALOG_JOB_MAX + 32];

	snprintf(name, sizeof name, "%s/%s", en->job, en->time);
	return strncmp(name, spec, strlen(spec)) == 0;
}

/* "a/2026…, b/2026… and 3 more" of those that match (or of all). */
static void
name_some(struct buf *out, const struct catalog_list *l, const char *prefix)
{
	size_t named = 0, more = 0;
	char text[CATALOG_JOB_MAX + 40];

	for (size_t i = l->n; i-- > 0;) { /* newest first */
		if (!has_prefix(&l->v[i], prefix))
			continue;
		if (named == NAMED_IN_ERROR) {
			more++;
			continue;
		}
		snprintf(text, sizeof text, "%s%s/%s", named ? ", " : "",
		    l->v[i].job, l->v[i].time);
		buf_put(out, text, strlen(text));
		named++;
	}
	if (more > 0) {
		snprintf(text, sizeof text, " and %zu more", more);
		buf_put(out, text, strlen(text));
	}
	buf_put_u8(out, '\0');
}

static int
none(const struct catalog_list *l, const char *spec, struct err *e)
{
	SCOPED_BUF struct buf some = {0};
	const char *slash = strchr(spec, '/');
	SCOPED_FREE char *job =
	    slash ? mem_strn(spec, (size_t)(slash - spec) + 1) : NULL;

	if (l->n == 0)
		return err_set(e, -ENOENT,
		    "there is no backup %.200s: the repository has none at all",
		    spec);
	/* The job's own backups help more than others'. */
	if (job != NULL && strlen(job) > 1 &&
	    latest_of(l, job, strlen(job) - 1) >= 0)
		name_some(&some, l, job);
	else
		name_some(&some, l, "");
	return err_set(e, -ENOENT, "there is no backup %.200s; there is %s",
	    spec, (const char *)some.data);
}

static int
pick(const struct catalog_list *l, const char *spec, size_t *out, struct err *e)
{
	SCOPED_BUF struct buf some = {0};
	const char *slash = strchr(spec, '/');
	size_t found = 0;

	if (slash != NULL && slash[1] != '\0' &&
	    strncmp(LATEST, slash + 1, strlen(slash + 1)) == 0) {
		int64_t i = latest_of(l, spec, (size_t)(slash - spec));

		if (i < 0)
			return none(l, spec, e);
		*out = (size_t)i;
		return 0;
	}
	for (size_t i = 0; i < l->n; i++) {
		if (has_prefix(&l->v[i], spec)) {
			*out = i;
			found++;
		}
	}
	if (found == 0 || spec[0] == '\0')
		return none(l, spec, e);
	if (found == 1)
		return 0;
	name_some(&some, l, spec);
	return err_set(e, -EINVAL,
	    "%.200s is not one backup but %zu: %s; say more of its name, or "
	    "JOB/" LATEST,
	    spec, found, (const char *)some.data);
}

int
catalog_resolve(
    struct repo *r, const char *spec, struct catalog_entry *out, struct err *e)
{
	SCOPED_CATALOG struct catalog_list l = {0};
	size_t at = 0;
	int rc = catalog_list(r, NULL, &l, e);

	if (rc == 0)
		rc = pick(&l, spec, &at, e);
	if (rc == 0)
		*out = l.v[at];
	return rc;
}
