/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/wal_needed.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/position.h"

#define SEGMENT_NAME_LEN 24
/* Unarchived segments that are listed one by one, 28 bytes each: the agent
 * waits for the line. A server that is further behind has other worries. */
#define KEEP_MAX 10000

void
wal_needed_fini(struct wal_needed *n)
{
	free(n->wal);
	free(n->label);
	*n = (struct wal_needed){0};
}

/* The segment that holds `lsn`: timeline and number, three times eight digits.
 * -EINVAL: initdb --wal-segsize takes powers of two from 1 MiB to 1 GiB. */
static int
segment_name(
    char out[32], uint32_t timeline, uint64_t lsn, uint64_t segment_bytes)
{
	uint64_t each, number;

	if (segment_bytes < 1u << 20 || segment_bytes > 1u << 30 ||
	    (segment_bytes & (segment_bytes - 1)) != 0)
		return -EINVAL;
	each = (1ull << 32) / segment_bytes;
	number = lsn / segment_bytes;
	snprintf(out, 32, "%08" PRIX32 "%08" PRIX64 "%08" PRIX64, timeline,
	    number / each, number % each);
	return 0;
}

static bool
is_segment(const char *name)
{
	return strlen(name) == SEGMENT_NAME_LEN &&
	       strspn(name, "0123456789ABCDEF") == SEGMENT_NAME_LEN;
}

/*
 * The oldest position that a slot holds back may lie on a timeline before
 * this one: there the first of all timelines is named, which keeps more.
 */
static int
find_first(
    struct wal_needed *n, PGconn *c, const json_t *position, struct err *e)
{
	char slots[CONN_TEXT], size[CONN_TEXT];
	uint64_t first, held;
	unsigned long timeline =
	    strtoul(jdoc_str(position, "timeline", "0"), NULL, 10);

	if (conn_value(c, size,
		"SELECT bytes_per_wal_segment FROM pg_control_init()", e) < 0 ||
	    conn_value(c, slots,
		"SELECT min(restart_lsn) FROM pg_replication_slots "
		"WHERE wal_status IS DISTINCT FROM 'lost'",
		e) < 0)
		return e->code;
	if (timeline == 0 || timeline > UINT32_MAX ||
	    position_parse(&first, jdoc_str(position, "redo_lsn", "")) < 0)
		return err_set(e, -EIO, "no redo position");
	if (slots[0] != '\0' && position_parse(&held, slots) < 0)
		return err_set(e, -EIO, "a slot's position is %s", slots);
	if (slots[0] != '\0' && held < first) {
		first = held;
		timeline = 1;
	}
	if (segment_name(n->first, (uint32_t)timeline, first,
		strtoull(size, NULL, 10)) < 0)
		return err_set(e, -EIO, "segments of %s bytes", size);
	return 0;
}

static int
find_folder(struct wal_needed *n, PGconn *c, struct err *e)
{
	SCOPED_FREE char *data = NULL, *link = NULL;
	char said[CONN_TEXT];

	if (conn_value(c, said, "SELECT current_setting('data_directory')", e) <
	    0)
		return e->code;
	data = fs_real(said, e);
	if (data == NULL)
		return e->code;
	link = fs_join(data, "pg_wal");
	n->label = fs_join(data, "backup_label");
	n->wal = fs_real(link, e);
	return n->wal == NULL ? e->code : 0;
}

int
wal_needed_before(
    struct wal_needed *n, PGconn *c, const json_t *position, struct err *e)
{
	char archives[CONN_TEXT], summaries[CONN_TEXT];

	if (conn_value(
		c, archives, "SELECT current_setting('archive_mode')", e) < 0 ||
	    conn_value(c, summaries,
		"SELECT current_setting('summarize_wal', true)", e) < 0)
		return e->code;
	/* 17 and later: its summarizer, too, holds segments back. */
	if (strcmp(summaries, "on") == 0)
		return err_set(e, -EOPNOTSUPP, "summarize_wal is on");
	n->archives = strcmp(archives, "off") != 0;
	n->primary = strcmp(jdoc_str(position, "role", ""), "primary") == 0;
	if (find_first(n, c, position, e) < 0)
		return e->code;
	return find_folder(n, c, e);
}

typedef void each_fn(void *arg, const struct wal_needed *n, const char *name);

static int
each_name(const struct wal_needed *n, const char *folder, each_fn *fn,
    void *arg, struct err *e)
{
	struct dirent *de;
	DIR *d = opendir(folder);
	int rc = 0;

	if (d == NULL)
		return err_sys(e, errno, "list %s", folder);
	while ((errno = 0, de = readdir(d)) != NULL)
		fn(arg, n, de->d_name);
	if (errno != 0)
		rc = err_sys(e, errno, "list %s", folder);
	closedir(d);
	return rc;
}

struct archived {
	json_t *done; /* names as keys */
	json_t *keep;
};

static void
on_status(void *arg, const struct wal_needed *n, const char *name)
{
	struct archived *a = arg;
	size_t len = strlen(name);
	char segment[SEGMENT_NAME_LEN + 1];

	(void)n;
	if (len != SEGMENT_NAME_LEN + 5 ||
	    strcmp(name + SEGMENT_NAME_LEN, ".done") != 0)
		return;
	memcpy(segment, name, SEGMENT_NAME_LEN);
	segment[SEGMENT_NAME_LEN] = '\0';
	json_object_set_new(a->done, segment, json_true());
}

static void
on_segment(void *arg, const struct wal_needed *n, const char *name)
{
	struct archived *a = arg;

	if (is_segment(name) && strcmp(name, n->first) < 0 &&
	    json_object_get(a->done, name) == NULL)
		json_array_append_new(a->keep, json_string(name));
}

/* Older segments that nobody says are archived. One that was renamed since the
 * snapshot had been archived: the server asks for that first. */
static int
list_unarchived(json_t *keep, const struct wal_needed *n, struct err *e)
{
	SCOPED_FREE char *status = fs_join(n->wal, "archive_status");
	SCOPED_JSON json_t *done = json_object();
	struct archived a = {done, keep};
	int rc = each_name(n, status, on_status, &a, e);

	if (rc == 0)
		rc = each_name(n, n->wal, on_segment, &a, e);
	if (rc == 0 && json_array_size(keep) > KEEP_MAX)
		rc = err_set(e, -EFBIG, "%zu segments wait to be archived",
		    json_array_size(keep));
	return rc;
}

int
wal_needed_after(
    json_t **log, const struct wal_needed *n, PGconn *c, struct err *e)
{
	SCOPED_JSON json_t *doc = NULL;
	char last[CONN_TEXT];
	int rc = 0;

	if (n->wal == NULL)
		return 0;
	doc =
	    json_pack("{s:o, s:s, s:[], s:[o]}", "folder", jdoc_new_str(n->wal),
		"first", n->first, "keep", "unless", jdoc_new_str(n->label));
	/* A standby's log grows by what it is sent: where that ends nobody
	 * says, so all that is newer is kept. The agent waits for the answer:
	 * two seconds are plenty. */
	if (n->primary) {
		rc = conn_do(c, "SET statement_timeout = 2000", e);
		if (rc == 0)
			rc = conn_value(c, last,
			    "SELECT pg_walfile_name(pg_current_wal_insert_lsn()"
			    ")",
			    e);
		if (rc == 0 && !is_segment(last))
			rc = err_set(e, -EIO, "no segment: %s", last);
		if (rc == 0)
			json_object_set_new(doc, "last", json_string(last));
	}
	if (rc == 0 && n->archives)
		rc = list_unarchived(json_object_get(doc, "keep"), n, e);
	if (rc == 0)
		*log = TAKE(doc);
	return rc;
}
