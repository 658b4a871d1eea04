/* SPDX-License-Identifier: Apache-2.0 */
/* Compression: what goes in comes out, and nothing else ever does. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <zstd.h>

#include "agent/store/codec.h"

#define LEN 131072u

struct both {
	uint8_t plain[LEN], again[LEN];
	uint8_t packed[2 * LEN];
};

static void
round_trip(struct both *b, size_t len, enum codec_id want)
{
	struct err e = ERR_NONE;
	struct codec *c;
	enum codec_id id;
	size_t n;

	assert_true(codec_bound(len) <= sizeof b->packed);
	OK(codec_new(&c, 3, &e));
	OK(codec_pack(c, SPAN(b->plain, len), b->packed, &n, &id, &e));
	assert_int_equal(id, want);
	assert_true(n <= len);
	memset(b->again, 0xee, sizeof b->again);
	OK(codec_unpack(c, id, SPAN(b->packed, n), b->again, len, &e));
	assert_memory_equal(b->plain, b->again, len);
	codec_free(c);
}

static void
test_rows_shrink(void **state)
{
	static struct both b;

	(void)state;
	scratch_rows(b.plain, LEN, 1);
	round_trip(&b, LEN, CODEC_ZSTD);
	round_trip(&b, 4096, CODEC_ZSTD);
}

static void
test_noise_stays_raw(void **state)
{
	static struct both b;

	(void)state;
	scratch_noise(b.plain, LEN, 1);
	round_trip(&b, LEN, CODEC_RAW);
	round_trip(&b, 1, CODEC_RAW);
	round_trip(&b, 0, CODEC_RAW);
}

/* docs/format.md: neither checksum nor content size; one frame. */
static void
test_frame_has_no_extras(void **state)
{
	static struct both b;
	struct err e = ERR_NONE;
	struct codec *c;
	enum codec_id id;
	size_t n;

	(void)state;
	scratch_rows(b.plain, LEN, 2);
	OK(codec_new(&c, 3, &e));
	OK(codec_pack(c, SPAN(b.plain, LEN), b.packed, &n, &id, &e));
	assert_true(
	    ZSTD_getFrameContentSize(b.packed, n) == ZSTD_CONTENTSIZE_UNKNOWN);
	assert_int_equal(b.packed[4] & 4, 0); /* Content_Checksum_flag */
	codec_free(c);
}

static void
test_wrong_lengths_are_corrupt(void **state)
{
	static struct both b;
	struct err e = ERR_NONE;
	struct codec *c;
	enum codec_id id;
	size_t n;

	(void)state;
	scratch_rows(b.plain, 8192, 3);
	OK(codec_new(&c, 3, &e));
	OK(codec_pack(c, SPAN(b.plain, 8192), b.packed, &n, &id, &e));
	FAILS(-EBADMSG,
	    codec_unpack(c, id, SPAN(b.packed, n), b.again, 8191, &e));
	FAILS(-EBADMSG,
	    codec_unpack(c, id, SPAN(b.packed, n), b.again, 8193, &e));
	for (size_t cut = 0; cut < n; cut += 37)
		FAILS(-EBADMSG, codec_unpack(c, id, SPAN(b.packed, cut),
				    b.again, 8192, &e));
	FAILS(-EBADMSG,
	    codec_unpack(c, CODEC_RAW, SPAN(b.packed, n), b.again, n + 1, &e));
	codec_free(c);
}

/* zstd alone would take these: a second frame, and a skippable one. */
static void
test_bytes_behind_the_frame_are_corrupt(void **state)
{
	static const uint8_t skip[8] = {0x50, 0x2a, 0x4d, 0x18};
	static struct both b;
	struct err e = ERR_NONE;
	struct codec *c;
	enum codec_id id;
	size_t n;

	(void)state;
	scratch_rows(b.plain, 4096, 4);
	OK(codec_new(&c, 3, &e));
	OK(codec_pack(c, SPAN(b.plain, 4096), b.packed, &n, &id, &e));
	memcpy(b.packed + n, skip, sizeof skip);
	FAILS(-EBADMSG,
	    codec_unpack(c, id, SPAN(b.packed, n + 8), b.again, 4096, &e));
	memcpy(b.packed + n, b.packed, n);
	FAILS(-EBADMSG,
	    codec_unpack(c, id, SPAN(b.packed, 2 * n), b.again, 8192, &e));
	codec_free(c);
}

static void
test_unknown_codec_is_corrupt(void **state)
{
	struct err e = ERR_NONE;
	struct codec *c;
	uint8_t x = 0;

	(void)state;
	OK(codec_new(&c, 3, &e));
	FAILS(-EBADMSG,
	    codec_unpack(c, (enum codec_id)7, SPAN(&x, 1), &x, 1, &e));
	codec_free(c);
}

static void
test_impossible_level_is_refused(void **state)
{
	struct err e = ERR_NONE;
	struct codec *c = NULL;

	(void)state;
	FAILS(-EINVAL, codec_new(&c, 1000, &e));
	assert_text_has(e.text, "1000");
	assert_null(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows_shrink),
	    cmocka_unit_test(test_noise_stays_raw),
	    cmocka_unit_test(test_frame_has_no_extras),
	    cmocka_unit_test(test_wrong_lengths_are_corrupt),
	    cmocka_unit_test(test_bytes_behind_the_frame_are_corrupt),
	    cmocka_unit_test(test_unknown_codec_is_corrupt),
	    cmocka_unit_test(test_impossible_level_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
