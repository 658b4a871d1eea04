/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A btrfs send stream, fed in two pieces: a byte for the length of the first,
 * and with bit 7 the checksums of the commands are put right before.
 */
#include "kmod-free/track/crc32c.h"
#include "kmod-free/track/send_stream.h"
#include "tests/fuzz/fuzz.h"

#define HEADER 17  /* magic and version */
#define COMMAND 10 /* length, command, CRC */

static void
mend(uint8_t *p, size_t len)
{
	static const uint8_t no_crc[4];
	size_t at = HEADER;

	while (at < len && len - at >= COMMAND) {
		uint32_t n = bytes_le32(p + at), crc;

		if (n > len - at - COMMAND)
			return;
		crc = crc32c(0, p + at, 6);
		crc = crc32c(crc, no_crc, sizeof no_crc);
		crc = crc32c(crc, p + at + COMMAND, n);
		bytes_put_le32(p + at + 6, crc);
		at += COMMAND + n;
	}
}

static int
on_command(void *arg, const struct send_command *c, struct err *e)
{
	unsigned *n = arg;
	struct err ignored = ERR_NONE;

	(void)e;
	++*n;
	for (unsigned a = 1; a <= SEND_A_MAX; a++) {
		volatile uint8_t sum = 0;
		struct span s;
		uint64_t v;

		send_stream_u64(c, a, &v, &ignored);
		if (send_stream_attr(c, a, &s, &ignored) < 0)
			continue;
		for (size_t i = 0; i < s.len; i++)
			sum = (uint8_t)(sum + ((const uint8_t *)s.data)[i]);
	}
	return 0;
}

/* How many commands it has; -1: it is not whole. */
static int
feed(const uint8_t *p, size_t len, size_t first)
{
	SCOPED_SEND_STREAM struct send_stream s = {0};
	struct err e = ERR_NONE;
	unsigned n = 0;
	int rc = send_stream_feed(&s, p, first, on_command, &n, &e);

	if (rc == 0)
		rc = send_stream_feed(
		    &s, p + first, len - first, on_command, &n, &e);
	if (rc == 0)
		rc = send_stream_finish(&s, &e);
	return rc < 0 ? -1 : (int)n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned how = (unsigned)fuzz_u64(&data, &len, 1);
	SCOPED_FREE uint8_t *p = mem_dup(data, len);
	size_t first = how & 127;

	if (how & 128)
		mend(p, len);
	if (first > len)
		first = len;
	/* Where it is cut makes no difference. */
	MUST(feed(p, len, first) == feed(p, len, len));
	return 0;
}
