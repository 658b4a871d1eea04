/* SPDX-License-Identifier: Apache-2.0 */
/* Key files and slots: they come back exactly, or say why not. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/jdoc.h"
#include "agent/store/keys.h"

static char *
key_path(void **state)
{
	return fs_join(*state, "test.key");
}

static void
write_key_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void
test_recovery_key_comes_back(void **state)
{
	SCOPED_FREE char *path = key_path(state);
	struct err e = ERR_NONE;
	struct keys k, back;
	struct stat st;

	OK(keys_generate(&k, true, &e));
	OK(keys_save(&k, path, true, &e));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	OK(keys_load(&back, path, &e));
	assert_true(back.encrypted && back.has_private);
	assert_memory_equal(back.repo_id, k.repo_id, KEYS_ID_LEN);
	assert_memory_equal(back.public_key, k.public_key, 32);
	assert_memory_equal(back.private_key, k.private_key, 32);
	assert_memory_equal(back.id_key, k.id_key, 32);
	assert_memory_equal(back.meta_key, k.meta_key, 32);
}

/* Or a stolen host could read its backups. */
static void
test_host_key_has_no_private_key(void **state)
{
	SCOPED_FREE char *path = key_path(state);
	static const uint8_t zeros[32];
	SCOPED_BUF struct buf text = {0};
	struct err e = ERR_NONE;
	struct keys k, back;
	char hex[65];

	OK(keys_generate(&k, true, &e));
	OK(keys_save(&k, path, false, &e));
	OK(keys_load(&back, path, &e));
	assert_false(back.has_private);
	assert_memory_equal(back.private_key, zeros, 32);
	OK(fs_read_at(AT_FDCWD, path, 4096, &text, &e));
	buf_put_u8(&text, 0);
	bytes_hex(hex, k.private_key, 32);
	assert_null(strstr((char *)text.data, hex));
}

static void
test_key_file_is_never_replaced(void **state)
{
	SCOPED_FREE char *path = key_path(state);
	struct err e = ERR_NONE;
	struct keys a, b, back;

	OK(keys_generate(&a, true, &e));
	OK(keys_generate(&b, true, &e));
	OK(keys_save(&a, path, true, &e));
	FAILS(-EEXIST, keys_save(&b, path, true, &e));
	assert_text_has(e.text, path);
	OK(keys_load(&back, path, &e));
	assert_memory_equal(back.id_key, a.id_key, 32);
}

static void
test_open_mode_is_refused(void **state)
{
	static const mode_t open_to[] = {0640, 0604, 0660, 0610};
	SCOPED_FREE char *path = key_path(state);
	struct err e = ERR_NONE;
	struct keys k, back;

	OK(keys_generate(&k, true, &e));
	OK(keys_save(&k, path, true, &e));
	for (size_t i = 0; i < MEM_COUNT(open_to); i++) {
		assert_int_equal(chmod(path, open_to[i]), 0);
		FAILS(-EKEYREJECTED, keys_load(&back, path, &e));
		assert_text_has(e.text, "chmod 600");
	}
}

static void
test_missing_key_file(void **state)
{
	SCOPED_FREE char *path = key_path(state);
	struct err e = ERR_NONE;
	struct keys k;

	FAILS(-EKEYREJECTED, keys_load(&k, path, &e));
	assert_text_has(e.text, path);
}

static void
test_what_is_no_key_is_refused(void **state)
{
	static const char *const text[] = {"", "hello", "[]", "{}",
	    "{\"neap_key\": 2}", "{\"neap_key\": 1, \"kind\": \"host\"}",
	    "{\"neap_key\": 1, \"kind\": \"host\", \"repository\": \"ab\"}"};
	SCOPED_FREE char *path = key_path(state);
	struct err e = ERR_NONE;
	struct keys k;

	for (size_t i = 0; i < MEM_COUNT(text); i++) {
		write_key_file(path, text[i], 0600);
		FAILS(-EKEYREJECTED, keys_load(&k, path, &e));
		assert_text_has(e.text, path);
	}
}

/* A private key with one wrong digit would show only at the restore. */
static void
test_damaged_private_key_is_refused(void **state)
{
	SCOPED_FREE char *path = key_path(state);
	SCOPED_BUF struct buf text = {0};
	struct err e = ERR_NONE;
	struct keys k;
	char *at;

	OK(keys_generate(&k, true, &e));
	OK(keys_save(&k, path, true, &e));
	OK(fs_read_at(AT_FDCWD, path, 4096, &text, &e));
	buf_put_u8(&text, 0);
	at = strstr((char *)text.data, "\"private_key\": \"");
	assert_non_null(at);
	at += 16 + 20;
	*at = *at == '0' ? '1' : '0';
	write_key_file(path, (char *)text.data, 0600);
	FAILS(-EKEYREJECTED, keys_load(&k, path, &e));
}

static void
test_passphrase_opens_its_slot(void **state)
{
	struct err e = ERR_NONE;
	struct keys k, back = {0};
	json_t *slot;

	(void)state;
	OK(keys_generate(&k, true, &e));
	slot = keys_wrap(&k, "correct horse", &e);
	assert_non_null(slot);
	assert_int_equal(jdoc_int(slot, "n", 0), 131072);
	memcpy(back.repo_id, k.repo_id, KEYS_ID_LEN);
	FAILS(-EKEYREJECTED, keys_unwrap(&back, slot, "wrong horse", &e));
	OK(keys_unwrap(&back, slot, "correct horse", &e));
	assert_true(back.has_private);
	assert_memory_equal(back.private_key, k.private_key, 32);
	/* Another repository's id: the slot was put in a place not its own. */
	back.repo_id[0] ^= 1;
	FAILS(-EKEYREJECTED, keys_unwrap(&back, slot, "correct horse", &e));
	json_decref(slot);
}

/* Or a stranger's neap.json could make us take all memory. */
static void
test_slot_cost_is_bounded(void **state)
{
	static const struct {
		const char *name;
		json_int_t value;
	} bad[] = {{"n", 2097152}, {"n", 3}, {"n", 0}, {"r", 33}, {"r", 0},
	    {"p", 17}, {"p", 0}};
	struct err e = ERR_NONE;
	struct keys k;
	json_t *slot;

	(void)state;
	OK(keys_generate(&k, true, &e));
	slot = keys_wrap(&k, "p", &e);
	assert_non_null(slot);
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		json_t *s = json_deep_copy(slot);

		json_object_set_new(s, bad[i].name, json_integer(bad[i].value));
		FAILS(-EBADMSG, keys_unwrap(&k, s, "p", &e));
		json_decref(s);
	}
	json_decref(slot);
}

static void
test_check_value_tells_keys_apart(void **state)
{
	struct err e = ERR_NONE;
	uint8_t a[16], b[16];
	struct keys k;

	(void)state;
	OK(keys_generate(&k, true, &e));
	OK(keys_check_value(&k, a, &e));
	k.meta_key[31] ^= 1;
	OK(keys_check_value(&k, b, &e));
	assert_memory_not_equal(a, b, 16);
	k.meta_key[31] ^= 1;
	k.repo_id[0] ^= 1;
	OK(keys_check_value(&k, b, &e));
	assert_memory_not_equal(a, b, 16);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_recovery_key_comes_back),
	    IN_FOLDER(test_host_key_has_no_private_key),
	    IN_FOLDER(test_key_file_is_never_replaced),
	    IN_FOLDER(test_open_mode_is_refused),
	    IN_FOLDER(test_missing_key_file),
	    IN_FOLDER(test_what_is_no_key_is_refused),
	    IN_FOLDER(test_damaged_private_key_is_refused),
	    cmocka_unit_test(test_passphrase_opens_its_slot),
	    cmocka_unit_test(test_slot_cost_is_bounded),
	    cmocka_unit_test(test_check_value_tells_keys_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
