/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: they come back under their own name only. */
#include "tests/unit/store/scratch.h"

#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/store/doc.h"

#define NAME "backups/orders/20261122T191517Z"

struct fixture {
	struct repo *repo;
	struct keys keys;
	json_t *doc;
};

static void
begin(struct fixture *f, void **state, bool encrypted)
{
	static const char text[] = "{\"job\": \"orders\", \"n\": [1, 2, 3]}";
	struct err e = ERR_NONE;

	OK(repo_open(&f->repo, *state, false, &e));
	OK(keys_generate(&f->keys, encrypted, &e));
	f->doc = jdoc_parse(span_str(text), &e);
	assert_non_null(f->doc);
}

static void
end(struct fixture *f)
{
	json_decref(f->doc);
	repo_close(f->repo);
}

static void
check_round_trip(void **state, bool encrypted)
{
	SCOPED_JSON json_t *back = NULL;
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state, encrypted);
	OK(doc_put(f.repo, &f.keys, "record", NAME, f.doc, &e));
	OK(doc_get(f.repo, &f.keys, "record", NAME, &back, &e));
	assert_true(json_equal(back, f.doc));
	FAILS(-EEXIST, doc_put(f.repo, &f.keys, "record", NAME, f.doc, &e));
	end(&f);
}

static void
test_encrypted_round_trip(void **state)
{
	check_round_trip(state, true);
}

static void
test_plain_round_trip(void **state)
{
	check_round_trip(state, false);
}

/* Or an old record put in a new one's place would be believed. */
static void
test_another_name_does_not_open(void **state)
{
	static const char other[] = "backups/orders/20261122T191518Z";
	SCOPED_BUF struct buf file = {0};
	struct err e = ERR_NONE;
	json_t *back = NULL;
	struct fixture f;

	begin(&f, state, true);
	OK(doc_put(f.repo, &f.keys, "record", NAME, f.doc, &e));
	OK(repo_get_whole(f.repo, NAME, DOC_MAX_BYTES, &file, &e));
	OK(repo_put_whole(f.repo, other, buf_span(&file), &e));
	FAILS(-EBADMSG, doc_get(f.repo, &f.keys, "record", other, &back, &e));
	assert_text_has(e.text, other);
	/* Nor a record where a proof is looked for. */
	FAILS(-EBADMSG, doc_get(f.repo, &f.keys, "proof", NAME, &back, &e));
	end(&f);
}

static void
check_damage(void **state, bool encrypted)
{
	SCOPED_BUF struct buf file = {0};
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state, encrypted);
	OK(doc_put(f.repo, &f.keys, "record", NAME, f.doc, &e));
	OK(repo_get_whole(f.repo, NAME, DOC_MAX_BYTES, &file, &e));
	for (size_t i = 0; i < file.len * 2; i++) {
		SCOPED_JSON json_t *back = NULL;
		size_t cut = i < file.len ? i : file.len;
		int rc;

		if (i >= file.len)
			file.data[i - file.len] ^= 0x11;
		OK(repo_remove(f.repo, NAME, &e));
		OK(repo_put_whole(f.repo, NAME, SPAN(file.data, cut), &e));
		rc = doc_get(f.repo, &f.keys, "record", NAME, &back, &e);
		if (rc == 0) /* a reserved byte */
			assert_true(json_equal(back, f.doc));
		else if (rc != -EBADMSG && rc != -EOPNOTSUPP)
			fail_msg("at %zu: %d: %s", i, rc, e.text);
		if (i < file.len)
			assert_int_equal(rc, -EBADMSG);
		else
			file.data[i - file.len] ^= 0x11;
	}
	end(&f);
}

static void
test_cuts_and_flips_are_errors(void **state)
{
	check_damage(state, true);
}

static void
test_cuts_and_flips_are_errors_in_plain(void **state)
{
	check_damage(state, false);
}

static void
test_missing_is_not_corrupt(void **state)
{
	struct err e = ERR_NONE;
	json_t *back = NULL;
	struct fixture f;

	begin(&f, state, true);
	FAILS(-ENOENT, doc_get(f.repo, &f.keys, "record", NAME, &back, &e));
	end(&f);
}

static void
test_header_is_as_the_format_says(void **state)
{
	SCOPED_BUF struct buf file = {0};
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state, true);
	OK(doc_put(f.repo, &f.keys, "proof", "proofs/a/b/c", f.doc, &e));
	OK(repo_get_whole(f.repo, "proofs/a/b/c", 4096, &file, &e));
	assert_memory_equal(file.data, "neapDOC1", 8);
	assert_int_equal(bytes_le16(file.data + 8), 1);
	assert_int_equal(file.data[10], 2);
	assert_int_equal(file.data[11], 1);
	assert_true(bytes_all_zero(file.data + 33, 31));
	end(&f);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_encrypted_round_trip),
	    IN_FOLDER(test_plain_round_trip),
	    IN_FOLDER(test_another_name_does_not_open),
	    IN_FOLDER(test_cuts_and_flips_are_errors),
	    IN_FOLDER(test_cuts_and_flips_are_errors_in_plain),
	    IN_FOLDER(test_missing_is_not_corrupt),
	    IN_FOLDER(test_header_is_as_the_format_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
