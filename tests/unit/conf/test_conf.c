/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what it means, and what each mistake is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/conf/conf.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

#define HEAD "repository: {url: /repo, encryption: none}\n"
#define JOB(rest) HEAD "jobs:\n  app:\n" rest

static void
parse(struct conf *c, const char *text)
{
	struct err e = ERR_NONE;

	if (conf_parse(c, "n.yaml", text, strlen(text), &e) < 0)
		fail_msg("%s", e.text);
}

/* Refused, with exactly this text. */
static void
refused(const char *text, const char *want)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	assert_int_equal(
	    conf_parse(&c, "n.yaml", text, strlen(text), &e), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.text, want);
	/* Out parameters are written on success only. */
	assert_null(c.file);
}

/* Refused, with this text somewhere. */
static void
refused_with(const char *text, const char *want)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	assert_int_equal(
	    conf_parse(&c, "n.yaml", text, strlen(text), &e), -EINVAL);
	if (strstr(e.text, want) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", want, e.text);
}

static void
test_defaults(void **state)
{
	SCOPED_CONF struct conf c = {0};

	(void)state;
	parse(&c, "repository: {url: /repo, host_key: /k}\n"
		  "jobs: {app: {engine: files, path: /srv}}\n");
	assert_string_equal(c.file, "n.yaml");
	assert_string_equal(c.state_dir, "/var/lib/neap");
	assert_null(c.hooks_dir);
	assert_true(c.encryption);
	assert_int_equal(c.zstd_level, 3);
	assert_int_equal(c.threads, 0);
	assert_int_equal(c.jobs, 1);
	assert_string_equal(c.job[0].name, "app");
	assert_int_equal(c.job[0].line, 2);
	assert_string_equal(c.job[0].snapshot, "auto");
	assert_string_equal(c.job[0].tracker, "auto");
	assert_int_equal(c.job[0].hold_ms, 10000);
	assert_true(c.job[0].sample_percent == 0.1);
	assert_int_equal(c.job[0].rolling_days, 30);
	assert_false(c.job[0].hold);
	assert_int_equal(c.job[0].keep.last, 0);
	assert_null(c.job[0].schedule);
	assert_null(c.job[0].check.queries);
	assert_null(c.job[0].connection);
}

static void
test_every_key_of_the_top(void **state)
{
	SCOPED_CONF struct conf c = {0};

	(void)state;
	parse(&c, "state_dir: /state\n"
		  "threads: 7\n"
		  "hooks_dir: /hooks\n"
		  "repository:\n"
		  "  url: s3://bucket/prefix\n"
		  "  endpoint: https://rgw.example:7480\n"
		  "  region: here\n"
		  "  host_key: /host\n"
		  "  recovery_key: /recovery\n"
		  "  compression: zstd:19\n"
		  "  encryption: aes-256-gcm\n");
	assert_string_equal(c.state_dir, "/state");
	assert_int_equal(c.threads, 7);
	assert_string_equal(c.hooks_dir, "/hooks");
	assert_string_equal(c.repo_url, "s3://bucket/prefix");
	assert_string_equal(c.repo_endpoint, "https://rgw.example:7480");
	assert_string_equal(c.repo_region, "here");
	assert_string_equal(c.host_key, "/host");
	assert_string_equal(c.recovery_key, "/recovery");
	assert_int_equal(c.zstd_level, 19);
	assert_true(c.encryption);
	assert_int_equal(c.jobs, 0);
}

static void
test_every_key_of_a_job(void **state)
{
	SCOPED_CONF struct conf c = {0};
	const struct conf_job *j;

	(void)state;
	parse(&c, JOB("    engine: sqlite\n"
		      "    path: /srv/app/app.db\n"
		      "    run_as: app\n"
		      "    snapshot: btrfs\n"
		      "    tracker: btrfs-extents\n"
		      "    schedule: \"*:0/15\"\n"
		      "    hold: true\n"
		      "    hold_limit: 1500ms\n"
		      "    sample: 2.5\n"
		      "    rehash_days: 7\n"
		      "    keep: {last: 1, hourly: 2, daily: 3, weekly: 4,\n"
		      "           monthly: 5}\n"
		      "    check:\n"
		      "      schedule: \"03:00\"\n"
		      "      queries: [select 1, \"select 2\"]\n"));
	j = &c.job[0];
	assert_false(c.encryption);
	assert_int_equal(j->line, 3);
	assert_string_equal(j->engine, "sqlite");
	assert_string_equal(j->path, "/srv/app/app.db");
	assert_string_equal(j->run_as, "app");
	assert_string_equal(j->snapshot, "btrfs");
	assert_string_equal(j->tracker, "btrfs-extents");
	assert_string_equal(j->schedule, "*:0/15");
	assert_true(j->hold);
	assert_int_equal(j->hold_ms, 1500);
	assert_true(j->sample_percent == 2.5);
	assert_int_equal(j->rolling_days, 7);
	assert_int_equal(j->keep.last, 1);
	assert_int_equal(j->keep.hourly, 2);
	assert_int_equal(j->keep.daily, 3);
	assert_int_equal(j->keep.weekly, 4);
	assert_int_equal(j->keep.monthly, 5);
	assert_string_equal(j->check.schedule, "03:00");
	assert_string_equal(j->check.queries[0], "select 1");
	assert_string_equal(j->check.queries[1], "select 2");
	assert_null(j->check.queries[2]);
}

static void
test_connection_of_a_script_keeps_its_types(void **state)
{
	SCOPED_CONF struct conf c = {0};
	const json_t *o;

	(void)state;
	parse(&c, JOB("    {engine: script, hook: /h, connection: {port: 5432, "
		      "user: '007', zero: 007, name: 12ab}}\n"));
	o = c.job[0].connection;
	assert_int_equal(jdoc_int(o, "port", -1), 5432);
	assert_string_equal(jdoc_str(o, "user", ""), "007");
	assert_string_equal(jdoc_str(o, "zero", ""), "007");
	assert_string_equal(jdoc_str(o, "name", ""), "12ab");
}

/* A hook asks for a text and would not see a number. */
static void
test_connection_of_postgresql_has_its_types(void **state)
{
	SCOPED_CONF struct conf c = {0};
	const json_t *o;

	(void)state;
	parse(&c, JOB("    connection: {socket: /run, host: h, port: 5432,\n"
		      "                 user: 007, database: 2024,\n"
		      "                 passfile: /p, bindir: /b}\n"
		      "    engine: postgresql\n"));
	o = c.job[0].connection;
	assert_string_equal(jdoc_str(o, "socket", ""), "/run");
	assert_string_equal(jdoc_str(o, "host", ""), "h");
	assert_int_equal(jdoc_int(o, "port", -1), 5432);
	assert_string_equal(jdoc_str(o, "user", ""), "007");
	assert_string_equal(jdoc_str(o, "database", ""), "2024");
	assert_string_equal(jdoc_str(o, "passfile", ""), "/p");
	assert_string_equal(jdoc_str(o, "bindir", ""), "/b");
}

static void
test_bad_connections_of_postgresql(void **state)
{
	(void)state;
	refused(JOB("    engine: postgresql\n"
		    "    connection:\n"
		    "      prot: 5432\n"),
	    "n.yaml:6: jobs.app.connection.prot: unknown key (did you mean "
	    "'port'? known keys: socket, host, port, user, database, passfile, "
	    "bindir)");
	refused(JOB("    engine: postgresql\n"
		    "    connection: {port: 65536}\n"),
	    "n.yaml:5: jobs.app.connection.port: '65536' is not a whole number "
	    "from 1 to 65535");
	refused_with(JOB("    engine: postgresql\n"
			 "    connection: {socket: run}\n"),
	    "n.yaml:5: jobs.app.connection.socket: 'run' is not an absolute "
	    "path");
	refused_with(JOB("    engine: postgresql\n"
			 "    connection: 5432\n"),
	    "n.yaml:5: jobs.app.connection: a single value, where a mapping");
}

static void
test_an_alias_stands_for_its_anchor(void **state)
{
	SCOPED_CONF struct conf c = {0};

	(void)state;
	parse(&c, HEAD "jobs:\n"
		       "  a: {engine: files, path: /a, keep: &k {daily: 7}}\n"
		       "  b: {engine: files, path: /b, keep: *k}\n");
	assert_int_equal(c.job[1].keep.daily, 7);
}

static void
test_an_alias_to_itself_is_refused(void **state)
{
	(void)state;
	refused_with(HEAD "jobs: &j {a: *j}\n", "jobs.a.a: unknown key");
}

static void
test_durations(void **state)
{
	static const struct {
		const char *text;
		unsigned ms;
	} t[] = {
	    {"100ms", 100}, {"10s", 10000}, {"2m", 120000}, {"10m", 600000}};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		SCOPED_CONF struct conf c = {0};
		char text[256];

		snprintf(text, sizeof text,
		    JOB("    {engine: files, path: /a, hold_limit: %s}\n"),
		    t[i].text);
		parse(&c, text);
		assert_int_equal(c.job[0].hold_ms, t[i].ms);
	}
}

static void
test_bad_durations(void **state)
{
	static const char *const t[] = {"10", "s", "10 s", "1h", "99ms", "11m",
	    "-1s", "1.5s", "99999999999s", "\"\""};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		char text[256];

		snprintf(text, sizeof text,
		    JOB("    engine: files\n    hold_limit: %s\n"), t[i]);
		refused_with(text, "n.yaml:5: jobs.app.hold_limit: '");
		refused_with(text, "is not a time from 100ms to 600s, such as");
	}
}

static void
test_not_a_number(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n"
		    "    keep:\n"
		    "      hourly: abc\n"),
	    "n.yaml:6: jobs.app.keep.hourly: 'abc' is not a whole number "
	    "from 0 to 9999");
}

static void
test_numbers_out_of_range(void **state)
{
	static const char *const t[] = {
	    "10000", "-1", "1.5", "0x10", "1e3", "99999999999999999999", "+1"};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		char text[256];

		snprintf(text, sizeof text,
		    JOB("    engine: files\n    keep: {last: %s}\n"), t[i]);
		refused_with(text, "n.yaml:5: jobs.app.keep.last: '");
	}
}

static void
test_a_number_in_quotes(void **state)
{
	(void)state;
	refused("threads: \"4\"\n" HEAD,
	    "n.yaml:1: threads: '4' in quotes is a text, where a whole number "
	    "from 0 to 256 is wanted");
}

static void
test_rehash_never_is_refused(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n    rehash_days: 0\n"),
	    "n.yaml:5: jobs.app.rehash_days: '0' is not a whole number from 1 "
	    "to 3650");
}

static void
test_bad_samples(void **state)
{
	static const char *const t[] = {
	    "100.1", "-1", "nan", "inf", "0x1", "1..2", "."};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		char text[256];

		snprintf(text, sizeof text,
		    JOB("    engine: files\n    sample: %s\n"), t[i]);
		refused_with(text, "is not a number from 0 to 100");
	}
}

static void
test_not_a_boolean(void **state)
{
	(void)state;
	refused(JOB("    engine: sqlite\n    path: /a\n    hold: yes\n"),
	    "n.yaml:6: jobs.app.hold: 'yes' is not true or false");
}

static void
test_unknown_key_with_the_nearest(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n"
		    "    keep:\n"
		    "      hourli: 1\n"),
	    "n.yaml:6: jobs.app.keep.hourli: unknown key (did you mean "
	    "'hourly'? known keys: last, hourly, daily, weekly, monthly)");
}

static void
test_unknown_key_with_none_near(void **state)
{
	(void)state;
	refused(HEAD "colour: blue\n",
	    "n.yaml:2: colour: unknown key (known keys: state_dir, "
	    "repository, threads, hooks_dir, jobs)");
}

static void
test_a_very_long_unknown_key(void **state)
{
	char text[3000];

	(void)state;
	memset(text, 'k', sizeof text);
	memcpy(text, HEAD, strlen(HEAD));
	memcpy(text + 990, ": 1\n", 5);
	refused_with(text, "n.yaml:2: kkk");
	refused_with(text, "kkk: unknown key");
}

static void
test_a_key_twice(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n"
		    "    path: /a\n"
		    "    engine: sqlite\n"),
	    "n.yaml:6: jobs.app.engine: a second time; first in line 4");
}

static void
test_a_job_twice(void **state)
{
	(void)state;
	refused(HEAD "jobs:\n"
		     "  a: {engine: files, path: /a}\n"
		     "  a: {engine: files, path: /b}\n",
	    "n.yaml:4: jobs.a: a second time; first in line 3");
}

static void
test_a_merge_key_is_no_job(void **state)
{
	(void)state;
	refused_with(HEAD "jobs:\n  <<: {engine: files}\n",
	    "n.yaml:3: jobs.<<: a job's name is 1 to 64 of a-z");
}

/* 65 letters, one too many. */
static const char long_name[] = "abcdefghijklmnopqrstuvwxyzabcdef"
				"abcdefghijklmnopqrstuvwxyzabcdefg";

static void
test_bad_job_names(void **state)
{
	static const char *const t[] = {"Orders", ".a", "-a", "_a", "a/b",
	    "\"a b\"", "\"\"", "../a", "ä", long_name};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		char text[256];

		snprintf(text, sizeof text, HEAD "jobs:\n  %s: {}\n", t[i]);
		refused_with(text, "a job's name is 1 to 64 of");
	}
}

static void
test_good_job_names(void **state)
{
	SCOPED_CONF struct conf c = {0};

	(void)state;
	parse(&c, HEAD "jobs:\n"
		       "  7: {engine: files, path: /a}\n"
		       "  a.b_c-9: {engine: files, path: /a}\n");
	assert_string_equal(c.job[0].name, "7");
	assert_string_equal(c.job[1].name, "a.b_c-9");
}

static void
test_a_list_for_a_mapping(void **state)
{
	(void)state;
	refused(HEAD "jobs:\n  - engine: files\n",
	    "n.yaml:2: jobs: a list, where a mapping of keys to values is "
	    "wanted");
}

static void
test_a_mapping_for_a_value(void **state)
{
	(void)state;
	refused(JOB("    engine:\n      name: files\n"),
	    "n.yaml:4: jobs.app.engine: a mapping, where a single value is "
	    "wanted");
}

static void
test_a_value_for_a_list(void **state)
{
	(void)state;
	refused(JOB("    engine: sqlite\n"
		    "    path: /a\n"
		    "    check:\n"
		    "      queries: select 1\n"),
	    "n.yaml:7: jobs.app.check.queries: a single value, where a list is "
	    "wanted");
}

static void
test_an_empty_query(void **state)
{
	(void)state;
	refused(JOB("    engine: sqlite\n"
		    "    path: /a\n"
		    "    check:\n"
		    "      queries:\n"
		    "      - select 1\n"
		    "      - \" \"\n"),
	    "n.yaml:9: jobs.app.check.queries[2]: is empty");
}

static void
test_an_empty_list(void **state)
{
	(void)state;
	refused(JOB("    engine: sqlite\n    check: {queries: []}\n"),
	    "n.yaml:5: jobs.app.check.queries: an empty list; leave the key "
	    "out");
}

static void
test_a_key_without_value(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n    path:\n    snapshot: none\n"),
	    "n.yaml:5: jobs.app.path: has no value; leave the key out or give "
	    "it one");
	refused_with(JOB("    engine: files\n    path: ~\n"), "has no value");
	refused_with(
	    HEAD "jobs:\n", "n.yaml:2: jobs: a single value, where a mapping");
}

static void
test_a_nul_in_a_value(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n    path: \"/a\\0b\"\n"),
	    "n.yaml:5: jobs.app.path: has a NUL character");
}

static void
test_a_newline_in_a_path(void **state)
{
	(void)state;
	refused(JOB("    engine: files\n    path: \"/a\\nb\"\n"),
	    "n.yaml:5: jobs.app.path: has a control character");
}

static void
test_relative_paths(void **state)
{
	(void)state;
	refused("state_dir: var\n" HEAD,
	    "n.yaml:1: state_dir: 'var' is not an absolute path; begin it "
	    "with /");
	refused_with(JOB("    path: a.db\n"), "not an absolute path");
	refused_with("repository: {url: backups}\n",
	    "n.yaml:1: repository.url: 'backups' is not an absolute path");
	refused_with("repository: {host_key: k}\n", "not an absolute path");
	refused_with("repository: {recovery_key: k}\n", "not an absolute path");
	refused_with("hooks_dir: h\n", "not an absolute path");
	refused_with(JOB("    hook: h\n"), "not an absolute path");
}

static void
test_paths_with_dots(void **state)
{
	(void)state;
	refused(JOB("    path: /srv/../etc\n"),
	    "n.yaml:4: jobs.app.path: '/srv/../etc' has a '.' or '..' in it; "
	    "name the place itself");
	refused_with(JOB("    path: /srv/.\n"), "has a '.' or '..' in it");
}

static void
test_a_dot_file_is_a_path(void **state)
{
	SCOPED_CONF struct conf c = {0};

	(void)state;
	parse(&c, JOB("    {engine: files, path: /srv/.a/..b/c.}\n"));
	assert_string_equal(c.job[0].path, "/srv/.a/..b/c.");
}

static void
test_unknown_engine(void **state)
{
	(void)state;
	refused(JOB("    engine: postgres\n"),
	    "n.yaml:4: jobs.app.engine: 'postgres' is not a known engine (did "
	    "you mean 'postgresql'? there are: postgresql, mariadb, sqlite, "
	    "redis, script, files)");
}

static void
test_unknown_snapshot_and_tracker(void **state)
{
	(void)state;
	refused_with(JOB("    snapshot: lvm-thin\n"),
	    "did you mean 'lvm_thin'? there are: auto, btrfs, lvm_thin, "
	    "lvm_thick, device, none");
	refused_with(JOB("    tracker: zfs\n"),
	    "'zfs' is not a known tracker (there are: auto, scan, btrfs-send, "
	    "btrfs-extents, lvm-thin, lvm-exceptions)");
}

static void
test_a_job_without_engine(void **state)
{
	(void)state;
	refused(JOB("    path: /a\n"),
	    "n.yaml:3: jobs.app: the key 'engine' is missing");
}

static void
test_engines_that_need_a_path(void **state)
{
	(void)state;
	refused(JOB("    engine: sqlite\n"),
	    "n.yaml:3: jobs.app: the key 'path' is missing; engine sqlite "
	    "needs it");
	refused_with(JOB("    engine: files\n"), "engine files needs it");
}

static void
test_engines_that_take_no_path(void **state)
{
	(void)state;
	refused(JOB("    engine: postgresql\n    path: /a\n"),
	    "n.yaml:3: jobs.app: engine postgresql takes no 'path'; take that "
	    "key out");
	refused_with(JOB("    engine: mariadb\n    path: /a\n"), "no 'path'");
	refused_with(JOB("    engine: redis\n    path: /a\n"), "no 'path'");
}

static void
test_script_needs_its_hook(void **state)
{
	SCOPED_CONF struct conf c = {0};

	(void)state;
	refused(JOB("    engine: script\n"),
	    "n.yaml:3: jobs.app: the key 'hook' is missing; engine script "
	    "needs it");
	parse(&c, JOB("    {engine: script, hook: /usr/local/bin/h}\n"));
	assert_string_equal(c.job[0].hook, "/usr/local/bin/h");
}

static void
test_keys_of_another_engine(void **state)
{
	(void)state;
	refused_with(JOB("    {engine: files, path: /a, hook: /h}\n"),
	    "engine files takes no 'hook'");
	refused_with(JOB("    {engine: files, path: /a, hold: true}\n"),
	    "engine files takes no 'hold'");
	refused_with(JOB("    {engine: files, path: /a, connection: {}}\n"),
	    "engine files takes no 'connection'");
	refused_with(
	    JOB("    {engine: files, path: /a, check: {queries: [a]}}\n"),
	    "engine files takes no 'check.queries'");
	refused_with(JOB("    {engine: sqlite, path: /a, connection: {}}\n"),
	    "engine sqlite takes no 'connection'");
}

static void
test_bad_users(void **state)
{
	(void)state;
	refused(JOB("    run_as: a:b\n"),
	    "n.yaml:4: jobs.app.run_as: 'a:b' is not a user's name");
	refused_with(JOB("    run_as: \"\"\n"), "not a user's name");
	refused_with(JOB("    run_as: -x\n"), "not a user's name");
}

static void
test_bad_schedules(void **state)
{
	(void)state;
	refused(JOB("    schedule: 25:00\n"),
	    "n.yaml:4: jobs.app.schedule: '25:00' is not a schedule: its "
	    "hours are not from 0 to 23 (for example hourly, daily, weekly, "
	    "03:00, *:0/15, Mon 03:00 or Mon..Fri *:0/30)");
	refused_with(JOB("    check: {schedule: sometimes}\n"),
	    "n.yaml:4: jobs.app.check.schedule: 'sometimes' is not a");
}

static void
test_keep_nothing(void **state)
{
	(void)state;
	refused(JOB("    keep: {last: 0}\n"),
	    "n.yaml:4: jobs.app.keep: would keep no backup at all; leave "
	    "'keep' out to keep every one");
	refused_with(JOB("    keep: {}\n"), "would keep no backup at all");
}

static void
test_bad_compression(void **state)
{
	static const char *const t[] = {"zstd:0", "zstd:20", "\"zstd:\"",
	    "zstd", "lz4:1", "3", "zstd:3x", "\"zstd: 3\"", "zstd:-1",
	    "zstd:99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		char text[256];

		snprintf(text, sizeof text, "repository:\n  compression: %s\n",
		    t[i]);
		refused_with(text, "n.yaml:2: repository.compression: '");
		refused_with(text, "is not zstd:LEVEL with a level from 1 to "
				   "19");
	}
}

static void
test_unknown_encryption(void **state)
{
	(void)state;
	refused("repository: {encryption: aes}\n",
	    "n.yaml:1: repository.encryption: 'aes' is not a known encryption "
	    "(there are: none, aes-256-gcm)");
}

static void
test_encryption_without_a_key(void **state)
{
	(void)state;
	refused("repository: {url: /repo}\n",
	    "n.yaml:1: repository: no key is named; give 'host_key' (to back "
	    "up) or 'recovery_key' (to restore), or say 'encryption: none'");
}

static void
test_a_key_without_encryption(void **state)
{
	(void)state;
	refused("repository: {url: /r, encryption: none, host_key: /k}\n",
	    "n.yaml:1: repository: 'encryption: none' and a key file exclude "
	    "each other");
}

static void
test_repository_is_needed(void **state)
{
	(void)state;
	refused("state_dir: /s\n", "n.yaml:1: the key 'repository' is missing");
	refused("repository: {encryption: none}\n",
	    "n.yaml:1: repository: the key 'url' is missing");
}

static void
test_bad_urls(void **state)
{
	(void)state;
	refused("repository: {url: \"://x\"}\n",
	    "n.yaml:1: repository.url: '://x' is not a repository; name a "
	    "folder (/var/backups/neap) or s3://BUCKET/PREFIX");
	refused_with("repository: {url: \"s3://\"}\n", "not a repository");
	refused_with("repository: {url: \"S 3://a\"}\n", "not a repository");
}

static void
test_endpoint_of_a_folder(void **state)
{
	(void)state;
	refused("repository:\n"
		"  url: /repo\n"
		"  encryption: none\n"
		"  endpoint: https://x\n",
	    "n.yaml:1: repository: 'endpoint' and 'region' go with an s3:// "
	    "url only");
	refused_with("repository: {endpoint: ftp://x}\n",
	    "'ftp://x' does not begin with https:// or http://");
}

static void
test_not_yaml(void **state)
{
	(void)state;
	refused_with("repository:\n  url: [/a\njobs: {}\n", "n.yaml:3: not "
							    "YAML: ");
	refused_with("repository:\n\turl: /a\n", "n.yaml:2: not YAML: ");
	refused_with(
	    "repository:\n\turl: /a\n", "indent with spaces, not with tabs");
	refused_with("a: 1\nb: \xff\n", "n.yaml:2: not YAML: ");
}

static void
test_an_empty_file(void **state)
{
	static const char want[] =
	    "n.yaml:1: empty; the least that it needs is 'repository: {url: "
	    "/var/backups/neap, encryption: none}' and 'jobs: {app: {engine: "
	    "sqlite, path: /srv/app/app.db}}'";
	SCOPED_CONF struct conf c = {0};

	(void)state;
	refused("", want);
	refused("# nothing\n\n", want);
	/* What the message offers is taken. */
	parse(&c, "repository: {url: /var/backups/neap, encryption: none}\n"
		  "jobs: {app: {engine: sqlite, path: /srv/app/app.db}}\n");
}

static void
test_two_documents(void **state)
{
	(void)state;
	refused(HEAD "---\n" HEAD,
	    "n.yaml:2: a second document begins: a configuration is one");
	refused_with(HEAD "---\n[\n", "not YAML: ");
}

static void
test_not_a_mapping(void **state)
{
	(void)state;
	refused("hello\n",
	    "n.yaml:1: a single value, where a mapping of keys to values is "
	    "wanted");
	refused("? [a, b]\n: 1\n", "n.yaml:1: the key in line 1 is not a word");
}

/* A mebibyte of these took libyaml minutes. */
static void
test_too_many_brackets(void **state)
{
	char text[200];

	(void)state;
	memset(text, '[', sizeof text);
	text[0] = '\n';
	text[sizeof text - 1] = '\0';
	refused(text, "n.yaml:2: more than 100 open brackets");
}

static void
test_too_many_keys(void **state)
{
	SCOPED_BUF struct buf b = {0};

	(void)state;
	for (int i = 0; i <= 1000; i++) {
		char key[32];

		snprintf(key, sizeof key, "k%d: 1\n", i);
		buf_put(&b, key, strlen(key));
	}
	buf_put_u8(&b, 0);
	refused((const char *)b.data, "n.yaml:1: 1001 keys; at most 1000");
}

static void
test_job_by_name(void **state)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	(void)state;
	parse(&c, HEAD "jobs: {orders: {engine: files, path: /a}, docs: "
		       "{engine: files, path: /b}}\n");
	assert_ptr_equal(conf_job(&c, "docs", &e), &c.job[1]);
	assert_null(conf_job(&c, "order", &e));
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.text,
	    "no job 'order' in n.yaml (did you mean 'orders'? there are: "
	    "orders, docs)");
}

static void
test_job_of_none(void **state)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	(void)state;
	parse(&c, HEAD);
	assert_null(conf_job(&c, "a", &e));
	assert_string_equal(e.text, "no job 'a' in n.yaml (it has no jobs)");
}

static void
test_hook_json_of_all(void **state)
{
	SCOPED_CONF struct conf c = {0};
	SCOPED_FREE char *line = NULL;
	SCOPED_JSON json_t *j = NULL;

	(void)state;
	parse(&c, JOB("    engine: script\n"
		      "    path: /a\n"
		      "    hook: /h\n"
		      "    connection: {port: 1, user: u}\n"
		      "    check: {queries: [q, r]}\n"));
	j = conf_hook_json(&c.job[0]);
	line = jdoc_line(j);
	assert_string_equal(line,
	    "{\"job\":\"app\",\"engine\":\"script\",\"path\":\"/a\","
	    "\"hook\":\"/h\",\"hold\":false,"
	    "\"connection\":{\"port\":1,\"user\":\"u\"},"
	    "\"queries\":[\"q\",\"r\"]}");
}

static void
test_hook_json_of_little(void **state)
{
	SCOPED_CONF struct conf c = {0};
	SCOPED_FREE char *line = NULL;
	SCOPED_JSON json_t *j = NULL;

	(void)state;
	parse(&c, JOB("    {engine: sqlite, path: /a, hold: true}\n"));
	j = conf_hook_json(&c.job[0]);
	line = jdoc_line(j);
	assert_string_equal(line,
	    "{\"job\":\"app\",\"engine\":\"sqlite\",\"path\":\"/a\","
	    "\"hold\":true,\"queries\":[]}");
}

static void
test_a_missing_file(void **state)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(conf_load(&c, "/nonexistent/neap.yaml", &e), -ENOENT);
	assert_string_equal(e.text,
	    "no configuration at /nonexistent/neap.yaml: make one (see "
	    "neap.yaml(5)) or name it with -c");
}

static void
test_a_folder_is_no_file(void **state)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(conf_load(&c, "/", &e), -EISDIR);
	assert_string_equal(e.text, "configuration: read /: Is a directory");
}

static void
test_a_file_of_more_than_a_mebibyte(void **state)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;
	char path[] = "/tmp/neap-conf-XXXXXX";
	char want[128];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
	close(fd);
	assert_int_equal(conf_load(&c, path, &e), -EINVAL);
	unlink(path);
	snprintf(want, sizeof want,
	    "%s: larger than 1048576 bytes; that is no configuration", path);
	assert_string_equal(e.text, want);
}

static void
test_the_example_is_right(void **state)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	(void)state;
	/* Tests run in the root of the tree. */
	if (access("config/neap.yaml", R_OK) < 0) {
		print_message("skip: not run from the root of the tree\n");
		skip();
	}
	if (conf_load(&c, "config/neap.yaml", &e) < 0)
		fail_msg("%s", e.text);
	assert_true(c.jobs >= 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_every_key_of_the_top),
	    cmocka_unit_test(test_every_key_of_a_job),
	    cmocka_unit_test(test_connection_of_a_script_keeps_its_types),
	    cmocka_unit_test(test_connection_of_postgresql_has_its_types),
	    cmocka_unit_test(test_bad_connections_of_postgresql),
	    cmocka_unit_test(test_an_alias_stands_for_its_anchor),
	    cmocka_unit_test(test_an_alias_to_itself_is_refused),
	    cmocka_unit_test(test_durations),
	    cmocka_unit_test(test_bad_durations),
	    cmocka_unit_test(test_not_a_number),
	    cmocka_unit_test(test_numbers_out_of_range),
	    cmocka_unit_test(test_a_number_in_quotes),
	    cmocka_unit_test(test_rehash_never_is_refused),
	    cmocka_unit_test(test_bad_samples),
	    cmocka_unit_test(test_not_a_boolean),
	    cmocka_unit_test(test_unknown_key_with_the_nearest),
	    cmocka_unit_test(test_unknown_key_with_none_near),
	    cmocka_unit_test(test_a_very_long_unknown_key),
	    cmocka_unit_test(test_a_key_twice),
	    cmocka_unit_test(test_a_job_twice),
	    cmocka_unit_test(test_a_merge_key_is_no_job),
	    cmocka_unit_test(test_bad_job_names),
	    cmocka_unit_test(test_good_job_names),
	    cmocka_unit_test(test_a_list_for_a_mapping),
	    cmocka_unit_test(test_a_mapping_for_a_value),
	    cmocka_unit_test(test_a_value_for_a_list),
	    cmocka_unit_test(test_an_empty_query),
	    cmocka_unit_test(test_an_empty_list),
	    cmocka_unit_test(test_a_key_without_value),
	    cmocka_unit_test(test_a_nul_in_a_value),
	    cmocka_unit_test(test_a_newline_in_a_path),
	    cmocka_unit_test(test_relative_paths),
	    cmocka_unit_test(test_paths_with_dots),
	    cmocka_unit_test(test_a_dot_file_is_a_path),
	    cmocka_unit_test(test_unknown_engine),
	    cmocka_unit_test(test_unknown_snapshot_and_tracker),
	    cmocka_unit_test(test_a_job_without_engine),
	    cmocka_unit_test(test_engines_that_need_a_path),
	    cmocka_unit_test(test_engines_that_take_no_path),
	    cmocka_unit_test(test_script_needs_its_hook),
	    cmocka_unit_test(test_keys_of_another_engine),
	    cmocka_unit_test(test_bad_users),
	    cmocka_unit_test(test_bad_schedules),
	    cmocka_unit_test(test_keep_nothing),
	    cmocka_unit_test(test_bad_compression),
	    cmocka_unit_test(test_unknown_encryption),
	    cmocka_unit_test(test_encryption_without_a_key),
	    cmocka_unit_test(test_a_key_without_encryption),
	    cmocka_unit_test(test_repository_is_needed),
	    cmocka_unit_test(test_bad_urls),
	    cmocka_unit_test(test_endpoint_of_a_folder),
	    cmocka_unit_test(test_not_yaml),
	    cmocka_unit_test(test_an_empty_file),
	    cmocka_unit_test(test_two_documents),
	    cmocka_unit_test(test_not_a_mapping),
	    cmocka_unit_test(test_too_many_brackets),
	    cmocka_unit_test(test_too_many_keys),
	    cmocka_unit_test(test_job_by_name),
	    cmocka_unit_test(test_job_of_none),
	    cmocka_unit_test(test_hook_json_of_all),
	    cmocka_unit_test(test_hook_json_of_little),
	    cmocka_unit_test(test_a_missing_file),
	    cmocka_unit_test(test_a_folder_is_no_file),
	    cmocka_unit_test(test_a_file_of_more_than_a_mebibyte),
	    cmocka_unit_test(test_the_example_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
