/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/conf/conf_parts.h"
#include "agent/core/mem.h"

/* A snapshot is named neap-JOB-TIME and LVM's names end at 127. */
#define NAME_MAX_LEN 64
#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789"

static const char *const engines[] = {
    "postgresql", "mariadb", "sqlite", "redis", "script", "files", NULL};
static const char *const snapshots[] = {
    "auto", "btrfs", "lvm_thin", "lvm_thick", "device", "none", NULL};
static const char *const trackers[] = {"auto", "scan", "btrfs-send",
    "btrfs-extents", "lvm-thin", "lvm-exceptions", NULL};

/* What each engine needs and what makes no sense with it. */
enum need { NO, MAY, MUST };
static const struct engine {
	const char *name;
	enum need path, hook, connection, hold, queries;
} rules[] = {
    {"postgresql", .connection = MAY, .queries = MAY},
    {"mariadb", .connection = MAY, .queries = MAY},
    {"redis", .connection = MAY, .queries = MAY},
    {"sqlite", .path = MUST, .hold = MAY, .queries = MAY},
    {"script", .path = MAY, .hook = MUST, .connection = MAY, .queries = MAY},
    {"files", .path = MUST},
};

/* Which keys there are depends on the engine: read_connection, at the end. */
static int
later(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	(void)n, (void)k, (void)field, (void)e;
	return 0;
}

#define KEEP(k)                                                                \
	{                                                                      \
#k, offsetof(struct conf_keep, k), conf_key_whole, .max = 9999 \
	}
static const struct conf_key keep_keys[] = {
    KEEP(last), KEEP(hourly), KEEP(daily), KEEP(weekly), KEEP(monthly)};
static const struct conf_section keep_section = {
    keep_keys, MEM_COUNT(keep_keys)};

/* All zero in the struct means "keep everything": nobody may write that. */
static int
read_keep(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const struct conf_keep *keep = field;
	int rc = conf_key_section(n, &keep_section, field, e);

	(void)k;
	if (rc < 0)
		return rc;
	if (!keep->last && !keep->hourly && !keep->daily && !keep->weekly &&
	    !keep->monthly)
		return conf_yaml_error_key(n, e,
		    "would keep no backup at all; leave 'keep' out to keep "
		    "every one");
	return 0;
}

static const struct conf_key check_keys[] = {
    {.name = "schedule",
	offsetof(struct conf_check, schedule),
	conf_key_schedule},
    {.name = "queries", offsetof(struct conf_check, queries), conf_key_texts},
};
static const struct conf_section check_section = {
    check_keys, MEM_COUNT(check_keys)};

#define AT(field) offsetof(struct conf_job, field)
static const struct conf_key job_keys[] = {
    {.name = "engine",
	AT(engine),
	conf_key_word,
	.required = true,
	.words = engines},
    {.name = "path", AT(path), conf_key_path},
    {.name = "hook", AT(hook), conf_key_path},
    {.name = "connection", 0, later},
    {.name = "run_as", AT(run_as), conf_key_user},
    {.name = "snapshot", AT(snapshot), conf_key_word, .words = snapshots},
    {.name = "tracker", AT(tracker), conf_key_word, .words = trackers},
    {.name = "schedule", AT(schedule), conf_key_schedule},
    {.name = "keep", AT(keep), read_keep},
    {.name = "check",
	AT(check),
	conf_key_subsection,
	.section = &check_section},
    {.name = "hold", AT(hold), conf_key_bool},
    {.name = "hold_limit",
	AT(hold_ms),
	conf_key_duration_ms,
	.min = 100,
	.max = 600000},
    {.name = "sample", AT(sample_percent), conf_key_decimal, .max = 100},
    {.name = "rehash_days",
	AT(rolling_days),
	conf_key_whole,
	.min = 1,
	.max = 3650},
};
static const struct conf_section job_section = {job_keys, MEM_COUNT(job_keys)};

static int
check_need(const struct conf_node *n, const struct engine *r, const char *key,
    enum need need, bool given, struct err *e)
{
	if (need == MUST && !given)
		return conf_yaml_error_key(n, e,
		    "the key '%s' is missing; engine %s needs it", key,
		    r->name);
	if (need == NO && given)
		return conf_yaml_error_key(n, e,
		    "engine %s takes no '%s'; take that key out", r->name, key);
	return 0;
}

static int
check_engine(const struct conf_node *n, const struct conf_job *j, struct err *e)
{
	const struct engine *r = rules;
	int rc;

	while (strcmp(r->name, j->engine) != 0)
		r++;
	if ((rc = check_need(n, r, "path", r->path, j->path, e)) < 0 ||
	    (rc = check_need(n, r, "hook", r->hook, j->hook, e)) < 0 ||
	    (rc = check_need(
		 n, r, "connection", r->connection, j->connection, e)) < 0 ||
	    (rc = check_need(n, r, "hold", r->hold, j->hold, e)) < 0)
		return rc;
	return check_need(
	    n, r, "check.queries", r->queries, j->check.queries, e);
}

static int
read_connection(const struct conf_node *n, struct conf_job *j, struct err *e)
{
	size_t count;
	int rc = conf_yaml_map(n, &count, e);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct conf_node m = conf_yaml_member(n, i);

		if (strcmp(m.key, "connection") == 0)
			return conf_connection_parse(
			    &m, j->engine, &j->connection, e);
	}
	return rc;
}

static int
check_name(const struct conf_node *n, struct err *e)
{
	size_t len = strlen(n->key);

	if (len == 0 || len > NAME_MAX_LEN ||
	    strspn(n->key, NAME_LETTERS) == 0 ||
	    strspn(n->key, NAME_LETTERS "_.-") != len)
		return conf_yaml_error_key(n, e,
		    "a job's name is 1 to %d of a-z, 0-9, '_', '.' and '-', "
		    "and begins with a letter or digit",
		    NAME_MAX_LEN);
	return 0;
}

static int
parse_job(const struct conf_node *n, struct conf_job *j, struct err *e)
{
	int rc = check_name(n, e);

	if (rc < 0)
		return rc;
	j->name = mem_str(n->key);
	j->line = (unsigned)n->key_line;
	j->snapshot = mem_str("auto");
	j->tracker = mem_str("auto");
	j->hold_ms = 10000;
	j->sample_percent = 0.1;
	j->rolling_days = 30;
	rc = conf_key_section(n, &job_section, j, e);
	if (rc < 0)
		return rc;
	rc = read_connection(n, j, e);
	if (rc < 0)
		return rc;
	return check_engine(n, j, e);
}

int
conf_job_parse_all(const struct conf_node *n, struct conf *c, struct err *e)
{
	size_t count;
	int rc = conf_yaml_map(n, &count, e);

	if (rc < 0)
		return rc;
	c->job = mem_array(count, sizeof *c->job);
	for (size_t i = 0; i < count; i++) {
		struct conf_node m = conf_yaml_member(n, i);

		c->jobs = i + 1;
		rc = parse_job(&m, &c->job[i], e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void
free_job(struct conf_job *j)
{
	free(j->name);
	free(j->engine);
	free(j->path);
	free(j->hook);
	free(j->run_as);
	free(j->snapshot);
	free(j->tracker);
	free(j->schedule);
	free(j->check.schedule);
	for (char **q = j->check.queries; q != NULL && *q != NULL; q++)
		free(*q);
	free(j->check.queries);
	json_decref(j->connection);
}

void
conf_job_free_all(struct conf *c)
{
	for (size_t i = 0; i < c->jobs; i++)
		free_job(&c->job[i]);
	free(c->job);
}

const struct conf_job *
conf_job(const struct conf *c, const char *name, struct err *e)
{
	SCOPED_FREE const char **words = mem_array(c->jobs, sizeof *words);

	for (size_t i = 0; i < c->jobs; i++) {
		if (strcmp(c->job[i].name, name) == 0)
			return &c->job[i];
		words[i] = c->job[i].name;
	}
	err_set(e, -EINVAL, "no job '%.80s' in %s", name, c->file);
	if (c->jobs == 0)
		err_hint(e, "it has no jobs");
	else
		conf_key_hint(e, "there are", name, words, c->jobs);
	return NULL;
}

static void
put_text(json_t *o, const char *key, const char *s)
{
	if (s != NULL)
		json_object_set_new(o, key, json_string(s));
}

json_t *
conf_hook_json(const struct conf_job *j)
{
	json_t *o = json_object(), *queries = json_array();

	put_text(o, "job", j->name);
	put_text(o, "engine", j->engine);
	put_text(o, "path", j->path);
	put_text(o, "hook", j->hook);
	json_object_set_new(o, "hold", json_boolean(j->hold));
	if (j->connection != NULL)
		json_object_set_new(
		    o, "connection", json_deep_copy(j->connection));
	for (char **q = j->check.queries; q != NULL && *q != NULL; q++)
		json_array_append_new(queries, json_string(*q));
	json_object_set_new(o, "queries", queries);
	return o;
}
