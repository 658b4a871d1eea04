/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/job/health.h"

static void
print_proof(const json_t *proof)
{
	char age[32];
	int64_t utc_s = 0;

	if (proof == NULL) {
		printf("  last proven restore: never\n");
		return;
	}
	clock_parse_name(&utc_s, jdoc_str(proof, "checked", ""));
	printf("  last restore check: %s of %s, %s ago\n",
	    jdoc_str(proof, "result", "?"), jdoc_str(proof, "backup", "?"),
	    cmd_age(age, clock_now_s() - utc_s));
}

static void
print_job(const json_t *d)
{
	const json_t *p, *stats = json_object_get(d, "stats");
	char a[32], b[32];
	size_t i;

	printf("%s: %s\n", jdoc_str(d, "job", ""), jdoc_str(d, "health", ""));
	if (json_object_get(d, "last_backup") != NULL)
		printf("  last backup: %s, %s ago, %s, consistency %s; %lld in "
		       "all\n",
		    jdoc_str(d, "last_backup", ""),
		    cmd_age(a, jdoc_int(d, "last_backup_age_s", 0)),
		    fs_size_text(
			b, (uint64_t)jdoc_int(stats, "logical_bytes", 0)),
		    jdoc_str(d, "consistency", "?"),
		    (long long)jdoc_int(d, "backups", 0));
	print_proof(json_object_get(d, "last_proof"));
	json_array_foreach (json_object_get(d, "problems"), i, p)
		printf("  ! %s\n", json_string_value(p));
}

int
cmd_status(struct cmd *c, struct err *e)
{
	SCOPED_STORE struct store s = {0};
	SCOPED_JSON json_t *all = json_array();
	int rc;

	if (c->words > 0 && conf_job(&c->conf, c->word[0], e) == NULL)
		return e->code;
	rc = cmd_open_store(c, &s, e);
	for (size_t i = 0; rc == 0 && i < c->conf.jobs; i++) {
		const struct conf_job *j = &c->conf.job[i];
		enum health h;
		json_t *d;

		if (c->words > 0 && strcmp(j->name, c->word[0]) != 0)
			continue;
		rc = health_of(&c->conf, j, &s, &d, &h, e);
		if (rc < 0)
			break;
		json_array_append_new(all, d);
		if (!c->json)
			print_job(d);
		/* 4 over 1 over 5: corrupt is worst, unproven least. */
		if (c->check && health_exit_status(h) != 0 &&
		    (c->status == 0 || h == HEALTH_CORRUPT ||
			(h == HEALTH_PROBLEM && c->status == 5)))
			c->status = health_exit_status(h);
	}
	if (rc == 0 && c->json)
		cmd_print_json(all);
	return rc;
}
