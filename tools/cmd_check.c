/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/proof.h"

/* A check reads everything: 10 TB at 0.3 GB/s take nine hours. */
#define TIMEOUT_MS (24 * 3600 * INT64_C(1000))

struct options {
	const char *report;
	struct proof_how how;
};

static int
read_options(struct options *o, int argc, char **argv, struct err *e)
{
	static const struct option longs[] = {
	    {"report", required_argument, NULL, 'o'},
	    {"scratch", required_argument, NULL, 's'},
	    {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = tool_getopt(argc, argv, ":", longs, e)) != -1) {
		if (c == 'o')
			o->report = optarg;
		else if (c == 's')
			o->how.scratch = optarg;
		else
			return e->code;
	}
	return tool_args(argc, argv, 1, &tool_check, e);
}

static const char *
word_of(int rc)
{
	return rc >= 0          ? "passed"
	       : rc == -EBADMSG ? "failed"
				: "could-not-check";
}

static json_t *
make_proof(const struct proof_result *r, int rc, const struct err *why)
{
	int64_t boot = jdoc_int(r->doc, "boot_ms", -1);
	char checked[CLOCK_NAME_LEN + 1], host[256] = "";
	json_t *p;

	clock_name(checked, clock_now_s());
	if (gethostname(host, sizeof host - 1) < 0)
		host[0] = '\0';
	p = json_pack("{s:o, s:s, s:s, s:s, s:s, s:I, s:f, s:I, s:I, s:s, "
		      "s:o}",
	    "backup", jdoc_new_str(r->name), "job", r->entry.job, "checked",
	    checked, "result", word_of(rc), "engine",
	    r->engine ? r->engine : "?", "mount_ms", (json_int_t)r->mount_ms,
	    "seconds", (double)r->total_ms / 1000, "scratch_bytes",
	    (json_int_t)r->stats.scratch_bytes, "decoded_bytes",
	    (json_int_t)r->stats.decoded_bytes, "neap_version", NEAP_VERSION,
	    "host", jdoc_new_str(host));
	/* From the command to an engine that answers. */
	if (boot >= 0)
		json_object_set_new(
		    p, "recovery_ms", json_integer(r->mount_ms + boot));
	if (rc < 0)
		json_object_set_new(p, "error", jdoc_new_str(why->text));
	json_object_set(p, "steps", json_object_get(r->doc, "steps"));
	json_object_set(p, "report", r->doc);
	return p;
}

/* Names are seconds: where this one has a proof already (a small backup checked
 * twice, or by two hosts), the proof takes the next second that is free. */
static int
put_proof(
    struct tool *t, const struct proof_result *r, json_t *p, struct err *e)
{
	int64_t utc_s = clock_now_s();
	int rc = -EEXIST;

	for (int i = 0; i < 60 && rc == -EEXIST; i++) {
		char checked[CLOCK_NAME_LEN + 1];

		clock_name(checked, utc_s + i);
		json_object_set_new(p, "checked", json_string(checked));
		err_clear(e);
		rc = catalog_put_proof(t->store.repo, &t->store.keys,
		    r->entry.job, r->entry.time, checked, p, e);
	}
	return rc;
}

static int
keep_proof(
    struct tool *t, const struct proof_result *r, json_t *p, struct err *e)
{
	int rc = store_open(&t->store, &t->how, e);

	if (rc == 0)
		rc = put_proof(t, r, p, e);
	if (rc >= 0)
		rc = repo_sync(t->store.repo, e);
	return rc < 0 ? err_wrap(e, "keep the proof of %s", r->name) : 0;
}

static int
write_report(const char *file, const json_t *p, struct err *e)
{
	SCOPED_FREE char *text = jdoc_text(p);
	SCOPED_FREE char *line = mem_printf("%s\n", text);

	return fs_replace_at(AT_FDCWD, file, span_str(line), 0644, e);
}

static void
print_summary(const struct proof_result *r, const json_t *p)
{
	const json_t *steps = json_object_get(p, "steps");
	char a[32];
	size_t i;
	json_t *s;

	json_array_foreach (steps, i, s)
		printf("  %-16s %-13s %7.2f s  %s\n", jdoc_str(s, "name", "?"),
		    jdoc_str(s, "result", "?"),
		    (double)jdoc_int(s, "ms", 0) / 1000,
		    jdoc_str(s, "detail", ""));
	printf("%s %s: mounted in %.2f s", r->name, jdoc_str(p, "result", "?"),
	    (double)r->mount_ms / 1000);
	if (json_object_get(p, "recovery_ms") != NULL)
		printf(", answering after %.2f s",
		    (double)jdoc_int(p, "recovery_ms", 0) / 1000);
	printf(", %.1f s in all, scratch %s\n", (double)r->total_ms / 1000,
	    fs_size_text(a, r->stats.scratch_bytes));
}

/* Could not check has a status of its own, whatever stood in the way. */
static int
answer(int rc, struct err *e)
{
	if (rc >= 0 || rc == -EBADMSG || rc == -EINVAL || rc == -ECANCELED)
		return rc;
	return e->code = -EKEYREJECTED;
}

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	struct options o = {.how = {.timeout_ms = TIMEOUT_MS}};
	SCOPED_PROOF struct proof_result r = {.name = ""};
	SCOPED_JSON json_t *p = NULL;
	struct err ke = ERR_NONE;
	int rc;

	rc = read_options(&o, argc, argv, e);
	if (rc >= 0)
		rc = tool_locate(t, e);
	if (rc < 0)
		return rc;
	o.how.backup = argv[optind];
	rc = proof_run(t, &o.how, &r, e);
	/* No such backup, or told to stop: that says nothing about one. */
	if (rc < 0 && (r.name[0] == '\0' || rc == -ECANCELED)) {
		return err_wrap(e, "check of %s", o.how.backup);
	}
	p = make_proof(&r, rc, e);
	if (keep_proof(t, &r, p, &ke) < 0 && rc >= 0)
		rc = err_copy(e, &ke);
	else if (ke.code < 0)
		log_warn("%s", ke.text);
	if (o.report != NULL && write_report(o.report, p, &ke) < 0) {
		log_error("%s", ke.text);
		if (rc >= 0)
			rc = err_copy(e, &ke);
	}
	if (!t->json)
		print_summary(&r, p);
	else if (tool_print_json(p, &ke) < 0 && rc >= 0)
		return err_copy(e, &ke);
	if (rc < 0)
		err_wrap(e, "check of %s", r.name);
	return answer(rc, e);
}

const struct tool_command tool_check = {
    .name = "check",
    .usage = "check BACKUP [--report FILE] [--scratch DIR]",
    .summary = "Boot a backup's engine on a throw-away copy and prove it",
    .help =
	"      --report FILE  write the result there too, as JSON\n"
	"      --scratch DIR  where written blocks go meanwhile ($TMPDIR or "
	"/tmp)\n",
    .run = run,
};
