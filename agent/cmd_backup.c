/* SPDX-License-Identifier: Apache-2.0 */
/* neap probe and neap backup. */
#include <stdio.h>

#include "agent/cmd.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/job/backup.h"
#include "agent/job/plan.h"

int
cmd_probe(struct cmd *c, struct err *e)
{
	const struct conf_job *j = conf_job(&c->conf, c->word[0], e);
	SCOPED_PLAN struct plan p = {0};
	int rc;

	if (j == NULL)
		return e->code;
	rc = plan_ask(&p, &c->conf, j, e);
	if (rc == 0)
		rc = plan_make(&p, e);
	if (rc < 0)
		return rc;
	if (c->json) {
		SCOPED_JSON json_t *doc = plan_json(&p);

		cmd_print_json(doc);
	} else {
		plan_explain(&p, stdout);
	}
	/* Explained already: only the status is left to give. */
	if (p.refusals > 0)
		c->status = 3;
	return 0;
}

static const char *
size_of(const json_t *j, const char *key, char out[32])
{
	return fs_size_text(out, (uint64_t)jdoc_int(j, key, 0));
}

static void
say_dry(const json_t *j)
{
	char a[32], b[32];

	printf("%s: would look at %s of %s (%s%s%s); nothing was stored\n",
	    jdoc_str(j, "job", ""),
	    jdoc_str(j, "everything_why", NULL) ? size_of(j, "logical_bytes", a)
						: size_of(j, "named_bytes", a),
	    size_of(j, "logical_bytes", b), jdoc_str(j, "tracker", ""),
	    jdoc_str(j, "everything_why", NULL) ? ": everything, because " : "",
	    jdoc_str(j, "everything_why", ""));
}

static void
say(const json_t *j)
{
	char a[32], b[32];
	const char *why = jdoc_str(j, "everything_why", NULL);

	printf("%s  %s, consistency \"%s\", held for %lld ms\n",
	    jdoc_str(j, "backup", ""), jdoc_str(j, "engine", ""),
	    jdoc_str(j, "consistency", ""),
	    (long long)jdoc_int(j, "hold_ms", 0));
	printf("  protects  %10s in %lld files\n",
	    size_of(j, "logical_bytes", a), (long long)jdoc_int(j, "files", 0));
	if (jdoc_int(j, "unused_bytes", 0) > 0)
		printf("  left out  %10s that the file systems do not use\n",
		    size_of(j, "unused_bytes", a));
	if (jdoc_int(j, "left_out_bytes", 0) > 0)
		printf("  left out  %10s of log that recovery does not need, "
		       "in %lld files\n",
		    size_of(j, "left_out_bytes", a),
		    (long long)jdoc_int(j, "left_out_files", 0));
	if (why != NULL)
		printf("  read      %10s, everything: %s\n",
		    size_of(j, "read_bytes", a), why);
	else
		printf("  read      %10s; %s named %s\n",
		    size_of(j, "read_bytes", a), jdoc_str(j, "tracker", ""),
		    size_of(j, "named_bytes", b));
	if (why == NULL)
		printf("  checked   %10lld blocks it did not name, %lld of "
		       "them wrong\n",
		    (long long)(jdoc_int(j, "sampled_blocks", 0) +
				jdoc_int(j, "rehashed_blocks", 0) +
				jdoc_int(j, "second_opinion_blocks", 0)),
		    (long long)jdoc_int(j, "wrong_blocks", 0));
	printf("  changed   %10s, of which new to the repository %s\n",
	    size_of(j, "changed_bytes", a), size_of(j, "new_bytes", b));
	printf("  stored    %10s with everything that belongs to it, in "
	       "%.2f s\n",
	    size_of(j, "stored_bytes", a),
	    json_real_value(json_object_get(j, "seconds")));
}

int
cmd_backup(struct cmd *c, struct err *e)
{
	const struct conf_job *j = conf_job(&c->conf, c->word[0], e);
	struct backup_how how = {c->full_scan, c->dry_run, c->trust_tracker};
	SCOPED_JSON json_t *result = NULL;
	int rc;

	if (j == NULL)
		return e->code;
	rc = backup_run(&c->conf, j, &how, &result, e);
	if (rc < 0)
		return rc;
	if (c->json)
		cmd_print_json(result);
	else if (c->dry_run)
		say_dry(result);
	else if (!c->quiet)
		say(result);
	return 0;
}
