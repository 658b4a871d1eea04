/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The send stream: whole commands come out as they went in, in whatever pieces
 * the bytes come; anything torn or flipped is refused. And what paths mean
 * while names move.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kmod-free/track/crc32c.h"
#include "kmod-free/track/send_names.h"
#include "kmod-free/track/send_stream.h"

/* ---- making streams ---- */

static void
put_header(struct buf *b, uint32_t version)
{
	buf_put(b, "btrfs-stream", 13);
	buf_put_le32(b, version);
}

static void
put_attr(struct buf *b, uint16_t type, const void *p, size_t n)
{
	buf_put_le16(b, type);
	buf_put_le16(b, (uint16_t)n);
	buf_put(b, p, n);
}

static void
put_u64(struct buf *b, uint16_t type, uint64_t v)
{
	uint8_t le[8];

	bytes_put_le64(le, v);
	put_attr(b, type, le, sizeof le);
}

static void
put_command(struct buf *b, uint16_t op, const struct buf *attrs)
{
	size_t at = b->len;

	buf_put_le32(b, (uint32_t)attrs->len);
	buf_put_le16(b, op);
	buf_put_le32(b, 0);
	buf_put(b, attrs->data, attrs->len);
	bytes_put_le32(b->data + at + 6, crc32c(0, b->data + at, b->len - at));
}

static void
put_end(struct buf *b)
{
	struct buf none = {0};

	put_command(b, SEND_END, &none);
}

/* A header, an UPDATE_EXTENT of "dir/file", a RENAME, the end. */
static void
make_stream(struct buf *b)
{
	SCOPED_BUF struct buf a = {0};

	put_header(b, 1);
	put_attr(&a, SEND_A_PATH, "dir/file", 8);
	put_u64(&a, SEND_A_FILE_OFFSET, 4096);
	put_u64(&a, SEND_A_SIZE, 8192);
	put_command(b, SEND_UPDATE_EXTENT, &a);
	buf_clear(&a);
	put_attr(&a, SEND_A_PATH, "a", 1);
	put_attr(&a, SEND_A_PATH_TO, "", 0);
	put_command(b, SEND_RENAME, &a);
	put_end(b);
}

/* ---- reading them ---- */

struct seen {
	unsigned n;
	unsigned op[8];
	uint64_t off, size;
	char path[64];
	int fail_with; /* at the first command */
};

static int
note(void *arg, const struct send_command *c, struct err *e)
{
	struct seen *s = arg;

	if (s->fail_with != 0)
		return err_set(e, s->fail_with, "told to");
	if (c->op == SEND_UPDATE_EXTENT) {
		assert_int_equal(
		    send_stream_u64(c, SEND_A_FILE_OFFSET, &s->off, e), 0);
		assert_int_equal(
		    send_stream_u64(c, SEND_A_SIZE, &s->size, e), 0);
		snprintf(s->path, sizeof s->path, "%.*s",
		    (int)c->attr[SEND_A_PATH].len,
		    (const char *)c->attr[SEND_A_PATH].data);
	}
	if (s->n < 8)
		s->op[s->n] = c->op;
	s->n++;
	return 0;
}

/* All of it in pieces of `step` bytes. */
static int
read_all(const struct buf *b, size_t step, struct seen *seen, struct err *e)
{
	SCOPED_SEND_STREAM struct send_stream s = {0};

	for (size_t at = 0; at < b->len; at += step) {
		size_t n = b->len - at < step ? b->len - at : step;
		int rc = send_stream_feed(&s, b->data + at, n, note, seen, e);

		if (rc < 0)
			return rc;
	}
	return send_stream_finish(&s, e);
}

static void
test_crc_is_the_kernels(void **state)
{
	static const char digits[] = "012345678901234567890123456789012345";

	(void)state;
	/* CRC-32C of "123456789" is e3069283 where it starts with ones and is
	 * inverted at its end (RFC 3720); ours starts where it is told. */
	assert_int_equal(~crc32c(~0u, "123456789", 9), 0xe3069283u);
	assert_int_equal(crc32c(0, "", 0), 0);
	/* In any pieces: eight bytes at once or one by one. */
	for (size_t i = 0; i <= 36; i++)
		assert_int_equal(crc32c(crc32c(0, digits, i), digits + i,
				     sizeof digits - 1 - i),
		    crc32c(0, digits, sizeof digits - 1));
}

static void
test_commands_in_any_pieces(void **state)
{
	SCOPED_BUF struct buf b = {0};

	(void)state;
	make_stream(&b);
	for (size_t step = 1; step <= b.len; step++) {
		struct seen seen = {0};
		struct err e = ERR_NONE;

		assert_int_equal(read_all(&b, step, &seen, &e), 0);
		assert_int_equal(seen.n, 3);
		assert_int_equal(seen.op[0], SEND_UPDATE_EXTENT);
		assert_int_equal(seen.op[1], SEND_RENAME);
		assert_int_equal(seen.op[2], SEND_END);
		assert_string_equal(seen.path, "dir/file");
		assert_int_equal(seen.off, 4096);
		assert_int_equal(seen.size, 8192);
	}
}

static void
test_cut_anywhere_is_refused(void **state)
{
	SCOPED_BUF struct buf b = {0};
	size_t whole;

	(void)state;
	make_stream(&b);
	whole = b.len;
	for (b.len = 0; b.len < whole; b.len++) {
		struct seen seen = {0};
		struct err e = ERR_NONE;

		assert_int_equal(read_all(&b, 7, &seen, &e), -EBADMSG);
	}
}

static void
test_any_flipped_bit_is_refused(void **state)
{
	SCOPED_BUF struct buf b = {0};

	(void)state;
	make_stream(&b);
	for (size_t i = 0; i < b.len * 8; i++) {
		struct seen seen = {0};
		struct err e = ERR_NONE;
		uint8_t bit = (uint8_t)(1u << i % 8);

		/* The version may become 3 or the like, which is known. */
		if (i / 8 >= 13 && i / 8 < 17)
			continue;
		b.data[i / 8] ^= bit;
		assert_int_equal(read_all(&b, b.len, &seen, &e), -EBADMSG);
		b.data[i / 8] ^= bit;
	}
}

static void
test_versions(void **state)
{
	(void)state;
	for (uint32_t v = 0; v < 6; v++) {
		SCOPED_BUF struct buf b = {0};
		struct seen seen = {0};
		struct err e = ERR_NONE;

		put_header(&b, v);
		put_end(&b);
		assert_int_equal(read_all(&b, b.len, &seen, &e),
		    v >= 1 && v <= 3 ? 0 : -EBADMSG);
	}
}

/* From version 2 on the data has no length of its own. */
static void
test_data_is_the_rest_in_version_2(void **state)
{
	SCOPED_BUF struct buf b = {0}, a = {0};
	struct seen seen = {0};
	struct err e = ERR_NONE;

	(void)state;
	put_attr(&a, SEND_A_PATH, "f", 1);
	buf_put_le16(&a, SEND_A_DATA);
	buf_put(&a, "\xff\xff data", 7);
	put_header(&b, 2);
	put_command(&b, SEND_WRITE, &a);
	put_end(&b);
	assert_int_equal(read_all(&b, b.len, &seen, &e), 0);
	/* The same bytes in version 1 claim a length of 65535. */
	buf_clear(&b);
	put_header(&b, 1);
	put_command(&b, SEND_WRITE, &a);
	put_end(&b);
	assert_int_equal(read_all(&b, b.len, &seen, &e), -EBADMSG);
}

static int
read_one(const struct buf *attrs, uint16_t op)
{
	SCOPED_BUF struct buf b = {0};
	struct seen seen = {0};
	struct err e = ERR_NONE;

	put_header(&b, 1);
	put_command(&b, op, attrs);
	put_end(&b);
	return read_all(&b, b.len, &seen, &e);
}

/* Well summed, and still senseless. */
static void
test_odd_attributes_are_refused(void **state)
{
	SCOPED_BUF struct buf a = {0};

	(void)state;
	put_attr(&a, SEND_A_PATH, "f", 1);
	assert_int_equal(read_one(&a, SEND_UNLINK), 0);
	put_attr(&a, SEND_A_PATH, "g", 1);
	assert_int_equal(read_one(&a, SEND_UNLINK), -EBADMSG); /* twice */
	buf_clear(&a);
	put_attr(&a, SEND_A_MAX + 1, "f", 1);
	assert_int_equal(read_one(&a, SEND_UNLINK), -EBADMSG);
	buf_clear(&a);
	put_attr(&a, 0, "f", 1);
	assert_int_equal(read_one(&a, SEND_UNLINK), -EBADMSG);
	buf_clear(&a);
	buf_put_le16(&a, SEND_A_PATH);
	buf_put_le16(&a, 2);
	buf_put_u8(&a, 'f');
	assert_int_equal(read_one(&a, SEND_UNLINK), -EBADMSG);
	buf_clear(&a);
	buf_put_u8(&a, 15);
	assert_int_equal(read_one(&a, SEND_UNLINK), -EBADMSG);
}

static void
test_numbers_have_eight_bytes(void **state)
{
	struct send_command c = {.op = SEND_TRUNCATE};
	struct err e = ERR_NONE;
	uint64_t v = 7;

	(void)state;
	assert_int_equal(send_stream_u64(&c, SEND_A_SIZE, &v, &e), -EBADMSG);
	c.attr[SEND_A_SIZE] = SPAN("1234567", 7);
	assert_int_equal(send_stream_u64(&c, SEND_A_SIZE, &v, &e), -EBADMSG);
	assert_int_equal(v, 7);
	c.attr[SEND_A_SIZE] = SPAN("\1\0\0\0\0\0\0\0", 8);
	assert_int_equal(send_stream_u64(&c, SEND_A_SIZE, &v, &e), 0);
	assert_int_equal(v, 1);
}

static void
test_a_command_too_long_is_refused_at_once(void **state)
{
	SCOPED_BUF struct buf b = {0};
	SCOPED_SEND_STREAM struct send_stream s = {0};
	struct seen seen = {0};
	struct err e = ERR_NONE;

	(void)state;
	put_header(&b, 1);
	buf_put_le32(&b, SEND_COMMAND_MAX + 1);
	buf_put_le16(&b, SEND_WRITE);
	buf_put_le32(&b, 0);
	/* Not when gigabytes have been gathered for it. */
	assert_int_equal(
	    send_stream_feed(&s, b.data, b.len, note, &seen, &e), -EBADMSG);
}

static void
test_more_behind_the_end_is_refused(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct seen seen = {0};
	struct err e = ERR_NONE;

	(void)state;
	make_stream(&b);
	put_end(&b);
	assert_int_equal(read_all(&b, b.len, &seen, &e), -EBADMSG);
	b.len -= 9; /* even one byte */
	assert_int_equal(read_all(&b, b.len, &seen, &e), -EBADMSG);
}

static void
test_the_callers_error_ends_it(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct seen seen = {.fail_with = -ESTALE};
	struct err e = ERR_NONE;

	(void)state;
	make_stream(&b);
	assert_int_equal(read_all(&b, b.len, &seen, &e), -ESTALE);
	assert_string_equal(e.text, "told to");
}

/* ---- names ---- */

static void
names_scope(struct send_names **t)
{
	send_names_free(*t);
}
#define SCOPED_NAMES __attribute__((cleanup(names_scope)))

static struct err last;

#define MAKE(p) assert_int_equal(send_names_make(t, span_str(p), &last), 0)
#define REMOVE(p) assert_int_equal(send_names_remove(t, span_str(p), &last), 0)
#define RENAME(p, q)                                                           \
	assert_int_equal(                                                      \
	    send_names_rename(t, span_str(p), span_str(q), &last), 0)
#define LINK(p, q)                                                             \
	assert_int_equal(send_names_link(t, span_str(p), span_str(q), &last), 0)

static const char *
meaning(struct send_names *t, const char *path)
{
	static struct buf base;
	int rc = send_names_resolve(t, span_str(path), &base, &last);

	if (rc == -ESTALE)
		return "(gone)";
	assert_true(rc == 0 || rc == 1);
	return rc == 0 ? "(new)" : (const char *)base.data;
}

#define MEANS(p, want) assert_string_equal(meaning(t, p), want)

static void
test_untouched_names_mean_themselves(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	MEANS("", "");
	MEANS("a", "a");
	MEANS("a/b/c", "a/b/c");
}

static void
test_a_moved_folder_takes_all_along(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	RENAME("a/b", "x");
	MEANS("x", "a/b");
	MEANS("x/deep/file", "a/b/deep/file");
	MEANS("a/b", "(gone)");
	MEANS("a/b/deep/file", "(gone)");
	MEANS("a/other", "a/other");
	RENAME("x/deep", "a/b"); /* into the place that it left */
	MEANS("a/b/file", "a/b/deep/file");
	MEANS("x/deep", "(gone)");
	RENAME("a", "z");
	MEANS("z/b/file", "a/b/deep/file");
	MEANS("z/other", "a/other");
	MEANS("x/f", "a/b/f");
}

/* What the kernel does where two names are exchanged. */
static void
test_exchange_by_way_of_an_orphan_name(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	RENAME("b", "o258-7-0");
	RENAME("a", "b");
	MEANS("b", "a");
	RENAME("o258-7-0", "a");
	MEANS("a", "b");
	MEANS("b", "a");
	MEANS("o258-7-0", "(gone)");
	MEANS("a/in", "b/in");
}

static void
test_a_new_file_under_an_old_name(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	MAKE("o300-9-0");
	REMOVE("f");
	MEANS("f", "(gone)");
	RENAME("o300-9-0", "f");
	MEANS("f", "(new)");
	REMOVE("f");
	MEANS("f", "(gone)");
}

static void
test_rename_over_one_that_is_there(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	MAKE("d/new");
	RENAME("d/old", "d/new");
	MEANS("d/new", "d/old");
	RENAME("d/new", "d/third");
	MEANS("d/third", "d/old");
	MEANS("d/new", "(gone)");
}

static void
test_new_folders_hold_only_what_came(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	MAKE("n");
	MEANS("n/x", "(gone)");
	RENAME("old/x", "n/x");
	MEANS("n/x", "old/x");
	RENAME("n", "m");
	MEANS("m/x", "old/x");
	MEANS("m/y", "(gone)");
	/* Nothing of the older snapshot's folder of that name shows. */
	MAKE("p");
	MEANS("p/q", "(gone)");
}

static void
test_links(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();

	(void)state;
	LINK("l", "d/f");
	MEANS("l", "d/f");
	REMOVE("d/f");
	MEANS("l", "d/f"); /* the file that was there */
	MAKE("d/f");
	MEANS("d/f", "(new)");
	LINK("l2", "d/f");
	MEANS("l2", "(new)");
	MEANS("l", "d/f");
}

static void
test_senseless_steps_are_stale(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();
	static const char *const bad[] = {
	    "/a", "a/", "a//b", ".", "a/../b", "./a"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(
		    send_names_make(t, span_str(bad[i]), &last), -ESTALE);
		assert_string_equal(meaning(t, bad[i]), "(gone)");
	}
	assert_int_equal(send_names_make(t, SPAN("a\0b", 3), &last), -ESTALE);
	assert_int_equal(send_names_make(t, span_str(""), &last), -ESTALE);
	assert_int_equal(send_names_remove(t, span_str(""), &last), -ESTALE);
	REMOVE("a");
	assert_int_equal(send_names_remove(t, span_str("a"), &last), -ESTALE);
	assert_int_equal(
	    send_names_rename(t, span_str("a"), span_str("b"), &last), -ESTALE);
	assert_int_equal(send_names_make(t, span_str("a/b"), &last), -ESTALE);
	assert_int_equal(/* below itself */
	    send_names_rename(t, span_str("c"), span_str("c/d"), &last),
	    -ESTALE);
	MAKE("n");
	MAKE("n/x");
	assert_int_equal(
	    send_names_link(t, span_str("n2"), span_str("n"), &last), -ESTALE);
}

static void
test_too_many_names_are_stale(void **state)
{
	SCOPED_NAMES struct send_names *t = send_names_new();
	int rc = 0;

	(void)state;
	for (unsigned i = 0; rc == 0 && i < 2000000; i++) {
		char name[200];

		snprintf(name, sizeof name, "%0150u", i);
		rc = send_names_make(t, span_str(name), &last);
	}
	assert_int_equal(rc, -ESTALE);
	assert_non_null(strstr(last.text, "too many"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_crc_is_the_kernels),
	    cmocka_unit_test(test_commands_in_any_pieces),
	    cmocka_unit_test(test_cut_anywhere_is_refused),
	    cmocka_unit_test(test_any_flipped_bit_is_refused),
	    cmocka_unit_test(test_versions),
	    cmocka_unit_test(test_data_is_the_rest_in_version_2),
	    cmocka_unit_test(test_odd_attributes_are_refused),
	    cmocka_unit_test(test_numbers_have_eight_bytes),
	    cmocka_unit_test(test_a_command_too_long_is_refused_at_once),
	    cmocka_unit_test(test_more_behind_the_end_is_refused),
	    cmocka_unit_test(test_the_callers_error_ends_it),
	    cmocka_unit_test(test_untouched_names_mean_themselves),
	    cmocka_unit_test(test_a_moved_folder_takes_all_along),
	    cmocka_unit_test(test_exchange_by_way_of_an_orphan_name),
	    cmocka_unit_test(test_a_new_file_under_an_old_name),
	    cmocka_unit_test(test_rename_over_one_that_is_there),
	    cmocka_unit_test(test_new_folders_hold_only_what_came),
	    cmocka_unit_test(test_links),
	    cmocka_unit_test(test_senseless_steps_are_stale),
	    cmocka_unit_test(test_too_many_names_are_stale),
	};

	return cmocka_run_group_tests_name("send_stream", tests, NULL, NULL);
}
