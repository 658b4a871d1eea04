/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/needed.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/position.h"

#define SEGMENT_NAME_LEN 24

void
needed_fini(struct needed *n)
{
	free(n->wal);
	free(n->label);
	*n = (struct needed){0};
}

int
needed_segment(
    char out[32], uint32_t timeline, uint64_t lsn, uint64_t segment_bytes)
{
	uint64_t each, number;

	/* initdb --wal-segsize takes powers of two from 1 MiB to 1 GiB. */
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
find_first(struct needed *n, PGconn *c, const json_t *position, struct err *e)
{
	char slots[CONN_TEXT], size[CONN_TEXT];
	uint64_t first, held;
	unsigned long timeline =
	    strtoul(jdoc_str(position, "timeline", "0"), NULL, 10);

	if (conn_value(c, size,
		"SELECT bytes_per_wal_segment FROM pg_control_init()", e) < 0 ||
	    conn_value(c, slots,
		"SELECT min(restart_lsn) FROM pg_replication_slots", e) < 0)
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
	if (needed_segment(n->first, (uint32_t)timeline, first,
		strtoull(size, NULL, 10)) < 0)
		return err_set(e, -EIO, "segments of %s bytes", size);
	return 0;
}

int
needed_before(
    struct needed *n, PGconn *c, const json_t *position, struct err *e)
{
	char data[CONN_TEXT], archives[CONN_TEXT];
	SCOPED_FREE char *link = NULL;
	int rc = find_first(n, c, position, e);

	if (rc == 0)
		rc = conn_value(
		    c, data, "SELECT current_setting('data_directory')", e);
	if (rc == 0)
		rc = conn_value(
		    c, archives, "SELECT current_setting('archive_mode')", e);
	if (rc < 0)
		return rc;
	n->archives = strcmp(archives, "off") != 0;
	n->primary = strcmp(jdoc_str(position, "role", ""), "primary") == 0;
	link = fs_join(data, "pg_wal");
	n->label = fs_join(data, "backup_label");
	n->wal = fs_real(link, e);
	return n->wal == NULL ? e->code : 0;
}

/* Older segments that nobody says are archived. One that was renamed since the
 * snapshot had been archived: the server asks for that first. */
static int
list_unarchived(json_t *keep, const struct needed *n, struct err *e)
{
	struct dirent *de;
	DIR *d = opendir(n->wal);
	int rc = 0;

	if (d == NULL)
		return err_sys(e, errno, "list %s", n->wal);
	while ((errno = 0, de = readdir(d)) != NULL) {
		SCOPED_FREE char *done =
		    mem_printf("%s/archive_status/%s.done", n->wal, de->d_name);

		if (is_segment(de->d_name) &&
		    strcmp(de->d_name, n->first) < 0 && access(done, F_OK) < 0)
			json_array_append_new(keep, json_string(de->d_name));
	}
	if (errno != 0)
		rc = err_sys(e, errno, "list %s", n->wal);
	closedir(d);
	return rc;
}

int
needed_after(json_t **log, const struct needed *n, PGconn *c, struct err *e)
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
	 * says, so all that is newer is kept. */
	if (n->primary) {
		rc = conn_value(c, last,
		    "SELECT pg_walfile_name(pg_current_wal_insert_lsn())", e);
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
