/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "tools/tool.h"

static const char *
local_time(char out[20], int64_t utc_s)
{
	time_t t = (time_t)utc_s;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL ||
	    strftime(out, 20, "%Y-%m-%d %H:%M", &tm) == 0)
		snprintf(out, 20, "?");
	return out;
}

/* What is shown of one backup; damage of one does not hide the others. */
static json_t *
describe(struct tool *t, const struct catalog_entry *en, int *worst)
{
	SCOPED_JSON json_t *record = NULL, *proof = NULL;
	struct err e = ERR_NONE, pe = ERR_NONE;
	const json_t *stats;
	json_t *o = json_object();
	char name[CATALOG_JOB_MAX + 24];

	snprintf(name, sizeof name, "%s/%s", en->job, en->time);
	json_object_set_new(o, "backup", jdoc_new_str(name));
	json_object_set_new(o, "job", jdoc_new_str(en->job));
	json_object_set_new(o, "time", jdoc_new_str(en->time));
	json_object_set_new(o, "utc_seconds", json_integer(en->utc_s));
	if (catalog_get(t->store.repo, &t->store.keys, en->job, en->time,
		&record, &e) < 0) {
		log_error("%s", e.text);
		json_object_set_new(o, "error", jdoc_new_str(e.text));
		*worst = e.code;
		return o;
	}
	stats = json_object_get(record, "stats");
	json_object_set_new(
	    o, "engine", jdoc_new_str(jdoc_str(record, "engine", "?")));
	json_object_set_new(o, "consistency",
	    jdoc_new_str(jdoc_str(record, "consistency", "?")));
	json_object_set_new(o, "logical_bytes",
	    json_integer(jdoc_int(stats, "logical_bytes", 0)));
	if (catalog_last_proof(t->store.repo, &t->store.keys, en->job, en->time,
		&proof, &pe) < 0) {
		/* Not "never": there is one, and it says nothing. */
		log_error("%s: its proofs cannot be read: %s", name, pe.text);
		json_object_set_new(o, "proof_error", jdoc_new_str(pe.text));
		*worst = pe.code;
	}
	if (proof != NULL)
		json_object_set_new(o, "proof", json_incref(proof));
	else
		json_object_set_new(o, "proof", json_null());
	return o;
}

static void
print_row(const json_t *o, const struct catalog_entry *en)
{
	const json_t *proof = json_object_get(o, "proof");
	const char *checked = jdoc_str(proof, "checked", NULL);
	int64_t n = jdoc_int(o, "logical_bytes", 0), utc = 0;
	char when[20], proven[20] = "never", size[32] = "?";

	if (json_object_get(o, "proof_error") != NULL)
		snprintf(proven, sizeof proven, "damaged");
	if (checked != NULL && clock_parse_name(&utc, checked) == 0)
		local_time(proven, utc);
	if (n > 0)
		fs_size_text(size, (uint64_t)n);
	printf("%-34s %-16s %-10s %-9s %10s  %s%s%s\n",
	    jdoc_str(o, "backup", "?"), local_time(when, en->utc_s),
	    jdoc_str(o, "engine", "damaged"), jdoc_str(o, "consistency", "-"),
	    size, proven, checked ? " " : "",
	    checked ? jdoc_str(proof, "result", "?") : "");
}

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	static const struct option none[] = {{NULL, 0, NULL, 0}};
	SCOPED_CATALOG struct catalog_list l = {0};
	SCOPED_JSON json_t *all = json_array();
	int rc, worst = 0;

	if (tool_getopt(argc, argv, "+:", none, e) != -1)
		return e->code;
	if (argc - optind > 1)
		return tool_args(argc, argv, 1, &tool_list, e);
	rc = tool_open(t, e);
	if (rc >= 0)
		rc = catalog_list(t->store.repo, argv[optind], &l, e);
	if (rc < 0)
		return rc;
	if (!t->json && l.n == 0)
		log_notice("there is no backup in %s", t->how.url);
	else if (!t->json)
		printf("%-34s %-16s %-10s %-9s %10s  %s\n", "backup",
		    "local time", "engine", "is", "size", "last proven");
	for (size_t i = 0; i < l.n; i++) {
		json_t *o = describe(t, &l.v[i], &worst);

		if (!t->json)
			print_row(o, &l.v[i]);
		json_array_append_new(all, o);
	}
	if (t->json && (rc = tool_print_json(all, e)) < 0)
		return rc;
	if (worst < 0)
		return err_set(
		    e, worst, "not every record and proof could be read");
	return 0;
}

const struct tool_command tool_list = {
    .name = "list",
    .usage = "list [JOB]",
    .summary = "Show the backups and when each was last proven",
    .help = "",
    .run = run,
};
