/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog: names of backups, their records, the proofs of restores. */
#include "tests/unit/store/place.h"

#include "agent/core/jdoc.h"
#include "agent/store/catalog.h"

static void
put(struct place *p, const char *job, const char *time)
{
	SCOPED_JSON json_t *j =
	    json_pack("{s:i, s:s, s:s}", "format", 1, "job", job, "time", time);
	struct err e = ERR_NONE;

	OK(catalog_put(p->repo, &p->keys, job, time, j, &e));
}

static void
put_some(struct place *p)
{
	put(p, "orders2", "20261122T000000Z");
	put(p, "orders", "20261123T101112Z");
	put(p, "orders", "20261121T101112Z");
	put(p, "orders", "20261122T101112Z");
	put(p, "app", "20251231T235959Z");
}

static void
test_list_is_by_job_and_time(void **state)
{
	static const char *const want[] = {"app/20251231T235959Z",
	    "orders/20261121T101112Z", "orders/20261122T101112Z",
	    "orders/20261123T101112Z", "orders2/20261122T000000Z"};
	SCOPED_CATALOG struct catalog_list l = {0}, one = {0};
	struct err e = ERR_NONE;
	struct place p;

	place_begin(&p, *state, "repo", true);
	OK(catalog_list(p.repo, NULL, &l, &e));
	assert_int_equal(l.n, 0);
	put_some(&p);
	/* Not ours: of no job, or not a time. */
	OK(repo_put_whole(p.repo, "backups/README", span_str("x"), &e));
	OK(repo_put_whole(p.repo, "backups/app/note", span_str("x"), &e));
	OK(repo_put_whole(
	    p.repo, "backups/APP/20251231T235959Z", span_str("x"), &e));
	OK(catalog_list(p.repo, NULL, &l, &e));
	assert_int_equal(l.n, MEM_COUNT(want));
	for (size_t i = 0; i < l.n; i++) {
		char name[100];

		snprintf(name, sizeof name, "%s/%s", l.v[i].job, l.v[i].time);
		assert_string_equal(name, want[i]);
		assert_true(l.v[i].record_len > 0);
	}
	assert_int_equal(l.v[0].utc_s, 1767225599);
	OK(catalog_list(p.repo, "orders", &one, &e));
	assert_int_equal(one.n, 3);
	FAILS(-EINVAL, catalog_list(p.repo, "../x", &one, &e));
	place_end(&p);
}

static void
resolves(struct place *p, const char *spec, const char *job, const char *time)
{
	struct catalog_entry en;
	struct err e = ERR_NONE;

	OK(catalog_resolve(p->repo, spec, &en, &e));
	assert_string_equal(en.job, job);
	assert_string_equal(en.time, time);
}

static void
test_resolve(void **state)
{
	struct catalog_entry en;
	struct err e = ERR_NONE;
	struct place p;

	place_begin(&p, *state, "repo", true);
	FAILS(-ENOENT, catalog_resolve(p.repo, "orders/latest", &en, &e));
	put_some(&p);
	resolves(&p, "orders/latest", "orders", "20261123T101112Z");
	resolves(&p, "orders/l", "orders", "20261123T101112Z");
	resolves(&p, "orders/20261122T101112Z", "orders", "20261122T101112Z");
	resolves(&p, "orders/20261121", "orders", "20261121T101112Z");
	resolves(&p, "orders2", "orders2", "20261122T000000Z");
	resolves(&p, "a", "app", "20251231T235959Z");
	FAILS(-EINVAL, catalog_resolve(p.repo, "orders/2026112", &en, &e));
	assert_text_has(e.text, "orders/20261122T101112Z");
	FAILS(-EINVAL, catalog_resolve(p.repo, "orders", &en, &e));
	FAILS(-ENOENT, catalog_resolve(p.repo, "orders/2027", &en, &e));
	assert_text_has(e.text, "orders/20261123T101112Z");
	FAILS(-ENOENT, catalog_resolve(p.repo, "none/latest", &en, &e));
	FAILS(-ENOENT, catalog_resolve(p.repo, "", &en, &e));
	FAILS(-ENOENT, catalog_resolve(p.repo, "/", &en, &e));
	place_end(&p);
}

static void
test_names_of_jobs(void **state)
{
	static const char *const bad[] = {
	    "", ".x", "_x", "-x", "A", "a/b", "a b", "\xc3\xa4"};
	char long_name[CATALOG_JOB_MAX + 2] = "";
	struct err e = ERR_NONE;

	(void)state;
	OK(catalog_check_job("0", &e));
	OK(catalog_check_job("orders-2.main_eu", &e));
	memset(long_name, 'a', CATALOG_JOB_MAX);
	OK(catalog_check_job(long_name, &e));
	long_name[CATALOG_JOB_MAX] = 'a';
	FAILS(-EINVAL, catalog_check_job(long_name, &e));
	for (size_t i = 0; i < MEM_COUNT(bad); i++)
		FAILS(-EINVAL, catalog_check_job(bad[i], &e));
}

static void
test_record_comes_back_and_is_made_once(void **state)
{
	SCOPED_JSON json_t *got = NULL;
	struct err e = ERR_NONE;
	struct place p;

	place_begin(&p, *state, "repo", true);
	put(&p, "app", "20251231T235959Z");
	OK(catalog_get(p.repo, &p.keys, "app", "20251231T235959Z", &got, &e));
	assert_string_equal(jdoc_str(got, "job", ""), "app");
	FAILS(-EEXIST,
	    catalog_put(p.repo, &p.keys, "app", "20251231T235959Z", got, &e));
	FAILS(-EINVAL,
	    catalog_put(p.repo, &p.keys, "app", "20251301T000000Z", got, &e));
	FAILS(-ENOENT,
	    catalog_get(p.repo, &p.keys, "app", "20200101T000000Z", &got, &e));
	place_end(&p);
}

static void
test_newer_record_is_refused(void **state)
{
	SCOPED_JSON json_t *j = json_pack("{s:i}", "format", 2), *got = NULL;
	struct err e = ERR_NONE;
	struct place p;

	place_begin(&p, *state, "repo", false);
	OK(catalog_put(p.repo, &p.keys, "app", "20251231T235959Z", j, &e));
	FAILS(-EBADMSG,
	    catalog_get(p.repo, &p.keys, "app", "20251231T235959Z", &got, &e));
	assert_text_has(e.text, "format 2");
	place_end(&p);
}

static void
test_maps_of_a_record(void **state)
{
	struct map_ref in[2] = {{{1, 2}, 300, 4}, {{0xff}, INT64_MAX, 0}};
	SCOPED_JSON json_t *rec = json_object();
	SCOPED_FREE struct map_ref *out = NULL;
	struct err e = ERR_NONE;
	size_t n;

	(void)state;
	json_object_set_new(rec, "maps", catalog_maps_json(in, 2));
	OK(catalog_maps(rec, &out, &n, &e));
	assert_int_equal(n, 2);
	for (size_t i = 0; i < n; i++) {
		assert_memory_equal(out[i].id, in[i].id, sizeof in[i].id);
		assert_int_equal(out[i].len, in[i].len);
		assert_int_equal(out[i].count, in[i].count);
	}
}

#define ID "00000000000000000000000000000000"

static void
test_bad_maps_are_refused(void **state)
{
	static const char *const bad[] = {"{}", "{\"maps\": {}}",
	    "{\"maps\": []}", "{\"maps\": [1]}",
	    "{\"maps\": [{\"id\": \"00\", \"bytes\": 1, \"entries\": 1}]}",
	    "{\"maps\": [{\"id\": \"" ID "\", \"entries\": 1}]}",
	    "{\"maps\": [{\"id\": \"" ID
	    "\", \"bytes\": -1, \"entries\": 1}]}"};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		SCOPED_JSON json_t *j = NULL;
		struct err e = ERR_NONE;
		struct map_ref *maps;
		size_t n;

		j = jdoc_parse(span_str(bad[i]), &e);
		assert_non_null(j);
		FAILS(-EBADMSG, catalog_maps(j, &maps, &n, &e));
	}
}

static void
prove(struct place *p, const char *time, const char *checked)
{
	SCOPED_JSON json_t *j = json_pack("{s:s}", "checked", checked);
	struct err e = ERR_NONE;

	OK(catalog_put_proof(p->repo, &p->keys, "app", time, checked, j, &e));
}

static void
last_is(struct place *p, const char *time, const char *checked)
{
	SCOPED_JSON json_t *j = NULL;
	struct err e = ERR_NONE;

	FAILS(checked != NULL,
	    catalog_last_proof(p->repo, &p->keys, "app", time, &j, &e));
	if (checked != NULL)
		assert_string_equal(jdoc_str(j, "checked", ""), checked);
}

/* The newest check, not the check of the newest backup. */
static void
test_last_proof(void **state)
{
	struct place p;

	place_begin(&p, *state, "repo", true);
	last_is(&p, NULL, NULL);
	prove(&p, "20260102T000000Z", "20260103T000000Z");
	prove(&p, "20260101T000000Z", "20260105T000000Z");
	prove(&p, "20260101T000000Z", "20260104T000000Z");
	last_is(&p, NULL, "20260105T000000Z");
	last_is(&p, "20260101T000000Z", "20260105T000000Z");
	last_is(&p, "20260102T000000Z", "20260103T000000Z");
	last_is(&p, "20260103T000000Z", NULL);
	place_end(&p);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_list_is_by_job_and_time),
	    TEST(test_resolve),
	    cmocka_unit_test(test_names_of_jobs),
	    TEST(test_record_comes_back_and_is_made_once),
	    TEST(test_newer_record_is_refused),
	    cmocka_unit_test(test_maps_of_a_record),
	    cmocka_unit_test(test_bad_maps_are_refused),
	    TEST(test_last_proof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
