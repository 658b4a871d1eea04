/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/doc.h"

#define RECORD_FORMAT 1
/* Each map is four times the next one, so some thirty would fill any disk. */
#define MAPS_MAX 256

int
catalog_check_job(const char *job, struct err *e)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t n = strlen(job);

	if (n >= 1 && n <= CATALOG_JOB_MAX && strchr(first, job[0]) != NULL &&
	    strspn(job, rest) == n)
		return 0;
	return err_set(e, -EINVAL,
	    "\"%.100s\" cannot be the name of a job: it has 1 to %d of a-z 0-9 "
	    "_ . - and begins with a letter or digit",
	    job, CATALOG_JOB_MAX);
}

static int
check_time(const char *time, struct err *e)
{
	int64_t utc_s;

	if (clock_parse_name(&utc_s, time) == 0)
		return 0;
	return err_set(e, -EINVAL,
	    "\"%.40s\" is not the time of a backup, like 20261122T191517Z",
	    time);
}

static int
check_names(const char *job, const char *time, struct err *e)
{
	int rc = catalog_check_job(job, e);

	return rc < 0 ? rc : check_time(time, e);
}

/* ---- listing ---- */

struct listing {
	struct catalog_list list;
	size_t cap;
};

/* "backups/JOB/TIME"; what has another shape is not a backup of ours. */
static int
list_one(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct listing *l = arg;
	struct catalog_entry en = {.record_len = len};
	const char *job = strchr(name, '/'), *time;
	struct err ignored = ERR_NONE;

	(void)e;
	time = job ? strchr(++job, '/') : NULL;
	if (time == NULL || (size_t)(time - job) > CATALOG_JOB_MAX ||
	    strlen(time + 1) != CLOCK_NAME_LEN)
		return 0;
	memcpy(en.job, job, (size_t)(time - job));
	memcpy(en.time, time + 1, CLOCK_NAME_LEN);
	if (catalog_check_job(en.job, &ignored) < 0 ||
	    clock_parse_name(&en.utc_s, en.time) < 0)
		return 0;
	MEM_ROOM(l->list.v, l->list.n, l->cap);
	l->list.v[l->list.n++] = en;
	return 0;
}

static int
by_job_and_time(const void *a, const void *b)
{
	const struct catalog_entry *x = a, *y = b;
	int c = strcmp(x->job, y->job);

	return c != 0 ? c : strcmp(x->time, y->time);
}

int
catalog_list(
    struct repo *r, const char *job, struct catalog_list *out, struct err *e)
{
	char prefix[16 + CATALOG_JOB_MAX] = "backups";
	struct listing l = {0};
	int rc = 0;

	if (job != NULL) {
		rc = catalog_check_job(job, e);
		snprintf(prefix, sizeof prefix, "backups/%.*s", CATALOG_JOB_MAX,
		    job);
	}
	if (rc == 0)
		rc = repo_list(r, prefix, list_one, &l, e);
	if (rc < 0) {
		catalog_list_free(&l.list);
		return err_wrap(e, "list the backups");
	}
	if (l.list.n > 1)
		qsort(l.list.v, l.list.n, sizeof *l.list.v, by_job_and_time);
	*out = l.list;
	return 0;
}

void
catalog_list_free(struct catalog_list *l)
{
	free(l->v);
	*l = (struct catalog_list){0};
}

/* ---- records ---- */

static void
record_name(char out[REPO_NAME_MAX + 1], const char *job, const char *time)
{
	snprintf(out, REPO_NAME_MAX + 1, "backups/%s/%s", job, time);
}

int
catalog_put(struct repo *r, const struct keys *k, const char *job,
    const char *time, const json_t *record, struct err *e)
{
	char name[REPO_NAME_MAX + 1];
	int rc = check_names(job, time, e);

	if (rc < 0)
		return rc;
	record_name(name, job, time);
	return doc_put(r, k, "record", name, record, e);
}

int
catalog_get(struct repo *r, const struct keys *k, const char *job,
    const char *time, json_t **record, struct err *e)
{
	SCOPED_JSON json_t *doc = NULL;
	char name[REPO_NAME_MAX + 1];
	uint64_t format;
	int rc = check_names(job, time, e);

	if (rc < 0)
		return rc;
	record_name(name, job, time);
	rc = doc_get(r, k, "record", name, &doc, e);
	if (rc < 0)
		return rc;
	rc = jdoc_get_u64(doc, "format", &format, e);
	if (rc == 0 && format != RECORD_FORMAT)
		rc = err_set(e, -EBADMSG,
		    "format %llu is not known here (%d is); a newer neap wrote "
		    "it",
		    (unsigned long long)format, RECORD_FORMAT);
	if (rc < 0)
		return err_wrap(e, "the record of backup %s/%s", job, time);
	*record = TAKE(doc);
	return 0;
}

/* ---- the maps of a record ---- */

static int
one_map(struct map_ref *out, const json_t *j, struct err *e)
{
	const char *id;
	struct map_ref m;
	int rc = jdoc_get_str(j, "id", &id, e);

	if (rc == 0)
		rc = jdoc_get_u64(j, "bytes", &m.len, e);
	if (rc == 0)
		rc = jdoc_get_u64(j, "entries", &m.count, e);
	if (rc == 0 && bytes_unhex(m.id, sizeof m.id, id) < 0)
		rc = err_set(e, -EBADMSG, "\"%.40s\" is not an id", id);
	if (rc == 0)
		*out = m;
	return rc;
}

int
catalog_maps(
    const json_t *record, struct map_ref **maps, size_t *n, struct err *e)
{
	const json_t *list = json_object_get(record, "maps");
	SCOPED_FREE struct map_ref *v = NULL;
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count == 0)
		return err_set(e, -EBADMSG, "the record names no maps");
	if (count > MAPS_MAX)
		return err_set(e, -EBADMSG, "the record names %zu maps", count);
	v = mem_array(count, sizeof *v);
	for (size_t i = 0; i < count; i++) {
		int rc = one_map(&v[i], json_array_get(list, i), e);

		if (rc < 0)
			return err_wrap(e, "map %zu of the record", i);
	}
	*maps = TAKE(v);
	*n = count;
	return 0;
}

json_t *
catalog_maps_json(const struct map_ref *maps, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		char hex[2 * TABLE_ID_LEN + 1];

		bytes_hex(hex, maps[i].id, TABLE_ID_LEN);
		json_array_append_new(
		    list, json_pack("{s:s, s:I, s:I}", "id", hex, "bytes",
			      (json_int_t)maps[i].len, "entries",
			      (json_int_t)maps[i].count));
	}
	return list;
}

/* ---- proofs ---- */

int
catalog_put_proof(struct repo *r, const struct keys *k, const char *job,
    const char *time, const char *checked, const json_t *proof, struct err *e)
{
	char name[REPO_NAME_MAX + 1];
	int rc = check_names(job, time, e);

	if (rc == 0)
		rc = check_time(checked, e);
	if (rc < 0)
		return rc;
	snprintf(name, sizeof name, "proofs/%s/%s/%s", job, time, checked);
	return doc_put(r, k, "proof", name, proof, e);
}

/* The proof with the latest time of checking among those listed. */
struct latest {
	char name[REPO_NAME_MAX + 1];
	char checked[CLOCK_NAME_LEN + 1];
};

static int
look_at_proof(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct latest *l = arg;
	const char *checked = strrchr(name, '/');
	int64_t utc_s;

	(void)len;
	(void)e;
	if (checked == NULL || clock_parse_name(&utc_s, ++checked) < 0 ||
	    strlen(checked) != CLOCK_NAME_LEN || strlen(name) > REPO_NAME_MAX)
		return 0;
	/* Of two at one time, the later backup's; so it never depends on the
	 * order of a folder. */
	if (strcmp(checked, l->checked) < 0 ||
	    (strcmp(checked, l->checked) == 0 && strcmp(name, l->name) < 0))
		return 0;
	snprintf(l->name, sizeof l->name, "%s", name);
	snprintf(l->checked, sizeof l->checked, "%s", checked);
	return 0;
}

int
catalog_last_proof(struct repo *r, const struct keys *k, const char *job,
    const char *time, json_t **proof, struct err *e)
{
	char prefix[REPO_NAME_MAX + 1];
	struct latest l = {0};
	int rc = catalog_check_job(job, e);

	if (rc == 0 && time != NULL)
		rc = check_time(time, e);
	if (rc < 0)
		return rc;
	snprintf(prefix, sizeof prefix, "proofs/%s%s%s", job, time ? "/" : "",
	    time ? time : "");
	rc = repo_list(r, prefix, look_at_proof, &l, e);
	if (rc < 0 || l.name[0] == '\0')
		return rc;
	rc = doc_get(r, k, "proof", l.name, proof, e);
	return rc < 0 ? rc : 1;
}
