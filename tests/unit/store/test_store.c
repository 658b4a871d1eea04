/* SPDX-License-Identifier: Apache-2.0 */
/* A repository made and opened: each wrong key and each damage has a name. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/jdoc.h"
#include "agent/store/store.h"

struct fixture {
	char *url, *host, *recovery, *neap_json;
};

static void
begin(struct fixture *f, void **state)
{
	f->url = fs_join(*state, "repo");
	f->host = fs_join(*state, "keys/host.key");
	f->recovery = fs_join(*state, "keys/recovery.key");
	f->neap_json = fs_join(f->url, "neap.json");
}

static void
end(struct fixture *f)
{
	free(f->url);
	free(f->host);
	free(f->recovery);
	free(f->neap_json);
}

static void
init(struct fixture *f, void **state, bool encrypted)
{
	struct err e = ERR_NONE;

	begin(f, state);
	OK(store_init(f->url, encrypted, f->host, f->recovery, NULL, &e));
}

static int
open_with(
    struct fixture *f, const char *key, const char *passphrase, struct err *e)
{
	SCOPED_STORE struct store s = {0};
	struct store_how how = {
	    .url = f->url, .key_path = key, .passphrase = passphrase};

	return store_open(&s, &how, e);
}

/* Change one member of neap.json. */
static void
edit(struct fixture *f, const char *name, json_t *value)
{
	SCOPED_BUF struct buf text = {0};
	SCOPED_FREE char *out = NULL;
	SCOPED_JSON json_t *o = NULL;
	struct err e = ERR_NONE;

	OK(fs_read_at(AT_FDCWD, f->neap_json, 65536, &text, &e));
	o = jdoc_parse(buf_span(&text), &e);
	assert_non_null(o);
	json_object_set_new(o, name, value);
	out = jdoc_text(o);
	OK(fs_replace_at(AT_FDCWD, f->neap_json, span_str(out), 0600, &e));
}

static void
test_both_keys_open_it(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	OK(open_with(&f, f.host, NULL, &e));
	OK(open_with(&f, f.recovery, NULL, &e));
	end(&f);
}

static void
test_plain_repository_needs_no_key(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, false);
	assert_int_equal(access(f.host, F_OK), -1);
	OK(open_with(&f, NULL, NULL, &e));
	end(&f);
}

/* Or whoever holds the storage turns encryption off by writing one file. */
static void
test_key_for_a_plain_repository_is_refused(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	edit(&f, "encryption", json_string("none"));
	edit(&f, "digest", json_string("sha256-blocks"));
	FAILS(-EKEYREJECTED, open_with(&f, f.host, NULL, &e));
	end(&f);
}

static void
test_no_repository(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state);
	FAILS(-ENOENT, open_with(&f, NULL, NULL, &e));
	assert_text_has(e.text, "neap init");
	assert_int_equal(access(f.url, F_OK), -1);
	assert_int_equal(mkdir(f.url, 0700), 0); /* a disk not mounted */
	FAILS(-ENOENT, open_with(&f, NULL, NULL, &e));
	assert_text_has(e.text, "neap init");
	end(&f);
}

static void
test_missing_key(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	FAILS(-EKEYREJECTED, open_with(&f, NULL, NULL, &e));
	FAILS(-EKEYREJECTED, open_with(&f, NULL, "no slots here", &e));
	assert_int_equal(unlink(f.host), 0);
	FAILS(-EKEYREJECTED, open_with(&f, f.host, NULL, &e));
	assert_text_has(e.text, f.host);
	end(&f);
}

static void
test_key_of_another_repository_names_both(void **state)
{
	SCOPED_FREE char *url = fs_join(*state, "other");
	SCOPED_FREE char *host = fs_join(*state, "other-host.key");
	SCOPED_FREE char *recovery = fs_join(*state, "other-recovery.key");
	struct err e = ERR_NONE;
	struct keys a, b;
	struct fixture f;
	char hex[33];

	init(&f, state, true);
	OK(store_init(url, true, host, recovery, NULL, &e));
	OK(keys_load(&a, f.host, &e));
	OK(keys_load(&b, host, &e));
	FAILS(-EKEYREJECTED, open_with(&f, host, NULL, &e));
	bytes_hex(hex, a.repo_id, 16);
	assert_text_has(e.text, hex);
	bytes_hex(hex, b.repo_id, 16);
	assert_text_has(e.text, hex);
	end(&f);
}

/* The id says ours, the secrets are not: an altered key or neap.json. */
static void
test_key_check_is_compared(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	edit(&f, "key_check", json_string("00112233445566778899aabbccddeeff"));
	FAILS(-EKEYREJECTED, open_with(&f, f.host, NULL, &e));
	end(&f);
}

/* Packs would be sealed to a stranger's public key. */
static void
test_replaced_public_key_is_refused(void **state)
{
	char hex[65];
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	memset(hex, 'a', 64);
	hex[64] = '\0';
	edit(&f, "public_key", json_string(hex));
	FAILS(-EKEYREJECTED, open_with(&f, f.host, NULL, &e));
	end(&f);
}

static void
test_newer_format_is_said_so(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	edit(&f, "block_bytes", json_integer(65536));
	FAILS(-EBADMSG, open_with(&f, f.host, NULL, &e));
	edit(&f, "format", json_integer(2));
	FAILS(-EOPNOTSUPP, open_with(&f, f.host, NULL, &e));
	assert_text_has(e.text, "format 2");
	end(&f);
}

/* What it is called is said, and that no damage has been found. */
static void
test_other_digest_is_said_so(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	edit(&f, "digest", json_string("hmac-sha256"));
	FAILS(-EOPNOTSUPP, open_with(&f, f.host, NULL, &e));
	assert_text_has(e.text, "digest is \"hmac-sha256\"");
	assert_text_has(e.text, "this version of neap cannot read");
	edit(&f, "digest", json_string("sha256-blocks")); /* without the key */
	FAILS(-EBADMSG, open_with(&f, f.host, NULL, &e));
	edit(&f, "digest", json_string("hmac-sha256-clocks"));
	FAILS(-EBADMSG, open_with(&f, f.host, NULL, &e));
	edit(&f, "digest", json_string("hmac-sha256-blocks"));
	OK(open_with(&f, f.host, NULL, &e));
	end(&f);
}

static void
test_damaged_neap_json_is_corrupt(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	edit(&f, "id", json_string("zz"));
	FAILS(-EBADMSG, open_with(&f, f.host, NULL, &e));
	OK(fs_replace_at(
	    AT_FDCWD, f.neap_json, span_str("{\"format\": 1"), 0600, &e));
	FAILS(-EBADMSG, open_with(&f, f.host, NULL, &e));
	OK(fs_replace_at(AT_FDCWD, f.neap_json, span_str(""), 0600, &e));
	FAILS(-EBADMSG, open_with(&f, f.host, NULL, &e));
	assert_text_has(e.text, "neap.json");
	end(&f);
}

static void
test_passphrase_opens_it(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state);
	OK(store_init(f.url, true, f.host, NULL, "correct horse", &e));
	OK(open_with(&f, NULL, "correct horse", &e));
	FAILS(-EKEYREJECTED, open_with(&f, NULL, "wrong", &e));
	assert_int_equal(access(f.recovery, F_OK), -1);
	end(&f);
}

static void
test_host_key_cannot_read_back(void **state)
{
	SCOPED_STORE struct store s = {0};
	struct err e = ERR_NONE;
	struct store_how how;
	struct fixture f;

	init(&f, state, true);
	how = (struct store_how){.url = f.url, .key_path = f.host};
	OK(store_open(&s, &how, &e));
	OK(store_index(&s, &e));
	FAILS(-EKEYREJECTED, store_reading(&s, &e));
	assert_text_has(e.text, "recovery key");
	end(&f);
}

static void
test_unknown_chunk_is_missing_not_corrupt(void **state)
{
	SCOPED_STORE struct store s = {0};
	static uint8_t to[CHUNK_BYTES];
	struct chunk_id id = {{7}};
	struct err e = ERR_NONE;
	struct store_how how;
	struct fixture f;
	unsigned blocks;

	init(&f, state, true);
	how = (struct store_how){.url = f.url, .key_path = f.recovery};
	OK(store_open(&s, &how, &e));
	OK(store_reading(&s, &e));
	FAILS(-ENOENT, store_chunk(&s, &id, to, &blocks, &e));
	assert_text_has(e.text, "0700000000");
	end(&f);
}

static void
test_init_never_overwrites(void **state)
{
	SCOPED_FREE char *other = fs_join(*state, "other");
	SCOPED_FREE char *free_key = fs_join(*state, "keys/free.key");
	SCOPED_BUF struct buf before = {0}, after = {0};
	struct err e = ERR_NONE;
	struct fixture f;

	init(&f, state, true);
	OK(fs_read_at(AT_FDCWD, f.recovery, 4096, &before, &e));
	/* A key file is in the way: nothing at all is made. */
	FAILS(-EEXIST, store_init(other, true, free_key, f.recovery, NULL, &e));
	assert_text_has(e.text, f.recovery);
	assert_int_equal(access(other, F_OK), -1);
	assert_int_equal(access(free_key, F_OK), -1);
	/* A repository is there: no key files are left behind. */
	FAILS(-EEXIST, store_init(f.url, true, free_key, other, NULL, &e));
	assert_int_equal(access(free_key, F_OK), -1);
	OK(fs_read_at(AT_FDCWD, f.recovery, 4096, &after, &e));
	assert_int_equal(span_cmp(buf_span(&before), buf_span(&after)), 0);
	OK(open_with(&f, f.host, NULL, &e));
	end(&f);
}

static void
test_init_wants_an_empty_folder(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;
	char *file;

	begin(&f, state);
	assert_int_equal(mkdir(f.url, 0700), 0);
	file = fs_join(f.url, "thesis.tex");
	OK(fs_replace_at(AT_FDCWD, file, span_str("x"), 0600, &e));
	FAILS(-EEXIST, store_init(f.url, true, f.host, f.recovery, NULL, &e));
	assert_text_has(e.text, "thesis.tex");
	assert_int_equal(access(f.recovery, F_OK), -1);
	free(file);
	end(&f);
}

static void
test_init_that_fails_leaves_no_keys(void **state)
{
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state);
	/* Host and recovery key in one place: the second is refused. */
	FAILS(-EEXIST, store_init(f.url, true, f.host, f.host, NULL, &e));
	assert_int_equal(access(f.host, F_OK), -1);
	assert_int_equal(access(f.neap_json, F_OK), -1);
	/* No way to read back at all. */
	FAILS(-EINVAL, store_init(f.url, true, f.host, NULL, NULL, &e));
	end(&f);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_both_keys_open_it),
	    IN_FOLDER(test_plain_repository_needs_no_key),
	    IN_FOLDER(test_key_for_a_plain_repository_is_refused),
	    IN_FOLDER(test_no_repository),
	    IN_FOLDER(test_missing_key),
	    IN_FOLDER(test_key_of_another_repository_names_both),
	    IN_FOLDER(test_key_check_is_compared),
	    IN_FOLDER(test_replaced_public_key_is_refused),
	    IN_FOLDER(test_newer_format_is_said_so),
	    IN_FOLDER(test_other_digest_is_said_so),
	    IN_FOLDER(test_damaged_neap_json_is_corrupt),
	    IN_FOLDER(test_passphrase_opens_it),
	    IN_FOLDER(test_host_key_cannot_read_back),
	    IN_FOLDER(test_unknown_chunk_is_missing_not_corrupt),
	    IN_FOLDER(test_init_never_overwrites),
	    IN_FOLDER(test_init_wants_an_empty_folder),
	    IN_FOLDER(test_init_that_fails_leaves_no_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
