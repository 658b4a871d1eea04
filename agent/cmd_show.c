/* SPDX-License-Identifier: Apache-2.0 */
/* neap list, neap show and neap diff: what the repository holds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/diff.h"

/* ---- list --------------------------------------------------------------- */

static json_t *
summary(const struct catalog_entry *en, const json_t *record)
{
	const json_t *stats = json_object_get(record, "stats");
	SCOPED_FREE char *name = mem_printf("%s/%s", en->job, en->time);

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "backup",
	    name, "job", en->job, "time", en->time, "engine",
	    jdoc_str(record, "engine", "?"), "consistency",
	    jdoc_str(record, "consistency", "?"), "logical_bytes",
	    (json_int_t)jdoc_int(stats, "logical_bytes", 0), "changed_bytes",
	    (json_int_t)jdoc_int(stats, "changed_bytes", 0), "new_bytes",
	    (json_int_t)jdoc_int(stats, "new_bytes", 0));
}

/* A record that cannot be read is listed as what it is, and remembered. */
static json_t *
summary_bad(const struct catalog_entry *en, const struct err *e)
{
	SCOPED_FREE char *name = mem_printf("%s/%s", en->job, en->time);

	return json_pack("{s:s, s:s, s:s, s:o}", "backup", name, "job", en->job,
	    "time", en->time, "error", jdoc_new_str(e->text));
}

static void
print_row(const json_t *s)
{
	char a[32], b[32], when[32];
	int64_t utc_s = 0;

	if (json_object_get(s, "error") != NULL) {
		printf("%-32s UNREADABLE: %s\n", jdoc_str(s, "backup", ""),
		    jdoc_str(s, "error", ""));
		return;
	}
	clock_parse_name(&utc_s, jdoc_str(s, "time", ""));
	printf("%-32s %-19s %-11s %-9s %10s %10s\n", jdoc_str(s, "backup", ""),
	    cmd_local_time(when, utc_s), jdoc_str(s, "engine", ""),
	    jdoc_str(s, "consistency", ""),
	    fs_size_text(a, (uint64_t)jdoc_int(s, "logical_bytes", 0)),
	    fs_size_text(b, (uint64_t)jdoc_int(s, "changed_bytes", 0)));
}

int
cmd_list(struct cmd *c, struct err *e)
{
	SCOPED_STORE struct store s = {0};
	SCOPED_CATALOG struct catalog_list l = {0};
	SCOPED_JSON json_t *rows = json_array();
	struct err first = ERR_NONE;
	const json_t *row;
	size_t i;
	int rc;

	if (c->words > 0 && conf_job(&c->conf, c->word[0], e) == NULL)
		return e->code;
	rc = cmd_open_store(c, &s, e);
	if (rc == 0)
		rc = catalog_list(s.repo, c->words ? c->word[0] : NULL, &l, e);
	if (rc < 0)
		return rc;
	for (i = 0; i < l.n; i++) {
		SCOPED_JSON json_t *record = NULL;

		rc = catalog_get(
		    s.repo, &s.keys, l.v[i].job, l.v[i].time, &record, e);
		if (rc < 0 && first.code == 0)
			err_copy(&first, e);
		json_array_append_new(rows, rc < 0 ? summary_bad(&l.v[i], e)
						   : summary(&l.v[i], record));
	}
	if (c->json) {
		cmd_print_json(rows);
	} else if (l.n == 0) {
		printf("No backups yet.\n");
	} else {
		printf("%-32s %-19s %-11s %-9s %10s %10s\n", "BACKUP", "WHEN",
		    "ENGINE", "LEVEL", "PROTECTS", "CHANGED");
		json_array_foreach (rows, i, row)
			print_row(row);
	}
	return first.code ? err_copy(e, &first) : 0;
}

/* ---- show --------------------------------------------------------------- */

static void
show_line(const char *label, const char *value)
{
	printf("  %-14s %s\n", label, value);
}

static void
show_plain(const json_t *r)
{
	const json_t *st = json_object_get(r, "stats");
	const json_t *t = json_object_get(r, "tracker");
	const json_t *freeze =
	    json_object_get(json_object_get(r, "evidence"), "freeze");
	const json_t *item;
	char a[32];
	size_t i;

	printf("%s\n", jdoc_str(r, "backup", ""));
	show_line("host", jdoc_str(r, "host", ""));
	show_line("engine", jdoc_str(r, "engine", ""));
	show_line("consistency", jdoc_str(r, "consistency", ""));
	printf("  %-14s %lld ms\n", "held for",
	    (long long)jdoc_int(st, "hold_ms", 0));
	if (freeze != NULL)
		printf("  %-14s %lld ms, of %lld at most (%lld volumes)\n",
		    "frozen for", (long long)jdoc_int(freeze, "held_ms", 0),
		    (long long)jdoc_int(freeze, "limit_ms", 0),
		    (long long)jdoc_int(freeze, "volumes", 0));
	json_array_foreach (json_object_get(r, "paths"), i, item)
		printf("  %-14s %s  on %s\n", jdoc_str(item, "role", ""),
		    jdoc_str(item, "path", ""), jdoc_str(item, "volume", ""));
	show_line("protects",
	    fs_size_text(a, (uint64_t)jdoc_int(st, "logical_bytes", 0)));
	if (jdoc_int(st, "unused_bytes", 0) > 0)
		show_line("left out",
		    fs_size_text(a, (uint64_t)jdoc_int(st, "unused_bytes", 0)));
	if (jdoc_int(st, "left_out_bytes", 0) > 0)
		printf("  %-14s %s of log that recovery does not need, in %lld "
		       "files\n",
		    "left out",
		    fs_size_text(
			a, (uint64_t)jdoc_int(st, "left_out_bytes", 0)),
		    (long long)jdoc_int(st, "left_out_files", 0));
	show_line(
	    "read", fs_size_text(a, (uint64_t)jdoc_int(st, "read_bytes", 0)));
	show_line("changed",
	    fs_size_text(a, (uint64_t)jdoc_int(st, "changed_bytes", 0)));
	show_line("tracker", jdoc_str(t, "name", ""));
	if (jdoc_str(t, "why", NULL) != NULL)
		show_line("all hashed", jdoc_str(t, "why", ""));
	printf("  %-14s %lld sampled, %lld re-hashed, %lld wrong\n",
	    "cross-check", (long long)jdoc_int(t, "sampled_blocks", 0),
	    (long long)jdoc_int(t, "rehashed_blocks", 0),
	    (long long)jdoc_int(t, "wrong_blocks", 0));
	printf("  %-14s %zu\n", "maps",
	    json_array_size(json_object_get(r, "maps")));
	show_line("parent", jdoc_str(r, "parent", "none"));
}

/* A backup named on the command line, with its record. */
static int
find(const struct store *s, const char *spec, struct catalog_entry *en,
    json_t **record, struct err *e)
{
	int rc = catalog_resolve(s->repo, spec, en, e);

	if (rc < 0)
		return rc;
	return catalog_get(s->repo, &s->keys, en->job, en->time, record, e);
}

int
cmd_show(struct cmd *c, struct err *e)
{
	SCOPED_STORE struct store s = {0};
	SCOPED_JSON json_t *record = NULL;
	struct catalog_entry en;
	int rc = cmd_open_store(c, &s, e);

	if (rc == 0)
		rc = find(&s, c->word[0], &en, &record, e);
	if (rc < 0)
		return rc;
	if (c->json)
		cmd_print_json(record);
	else
		show_plain(record);
	return 0;
}

/* ---- diff --------------------------------------------------------------- */

static int
open_view(const struct store *s, const char *spec, struct map_view **out,
    struct err *e)
{
	SCOPED_JSON json_t *record = NULL;
	SCOPED_FREE struct map_ref *maps = NULL;
	struct catalog_entry en;
	size_t n;
	int rc = find(s, spec, &en, &record, e);

	if (rc == 0)
		rc = catalog_maps(record, &maps, &n, e);
	if (rc == 0)
		rc = map_view_open(out, s->repo, &s->keys, maps, n, e);
	return rc < 0 ? err_wrap(e, "backup %s", spec) : 0;
}

struct diff_out {
	json_t *rows; /* or NULL: print */
	uint64_t lines, bytes;
};

static int
on_diff(void *arg, const struct diff_line *l)
{
	static const char *const word[] = {
	    "added", "removed", "content", "attributes"};
	static const char sign[] = {'+', '-', 'M', 'a'};
	struct diff_out *o = arg;
	char size[32] = "";

	o->lines++;
	o->bytes += l->kind == DIFF_REMOVED ? 0 : l->changed_bytes;
	if (o->rows != NULL) {
		json_array_append_new(
		    o->rows, json_pack("{s:s, s:o, s:I}", "change",
				 word[l->kind], "path", jdoc_new_str(l->path),
				 "bytes", (json_int_t)l->changed_bytes));
		return 0;
	}
	if (object_has_content(l->type) && l->kind != DIFF_ATTRIBUTES)
		fs_size_text(size, l->changed_bytes);
	{
		SCOPED_FREE char *path = cmd_printable(l->path);

		printf("%c %10s  %s\n", sign[l->kind], size, path);
	}
	return 0;
}

int
cmd_diff(struct cmd *c, struct err *e)
{
	SCOPED_STORE struct store s = {0};
	struct map_view *a = NULL, *b = NULL;
	struct diff_out o = {.rows = c->json ? json_array() : NULL};
	char size[32];
	int rc = cmd_open_store(c, &s, e);

	if (rc == 0)
		rc = open_view(&s, c->word[0], &a, e);
	if (rc == 0)
		rc = open_view(&s, c->word[1], &b, e);
	if (rc == 0)
		rc = diff_run(a, b, on_diff, &o, e);
	if (rc == 0 && c->json)
		cmd_print_json(o.rows);
	else if (rc == 0)
		printf("%llu paths differ, %s of content "
		       "(+ added, - removed, M content, a attributes)\n",
		    (unsigned long long)o.lines, fs_size_text(size, o.bytes));
	json_decref(o.rows);
	map_view_close(a);
	map_view_close(b);
	return rc;
}
