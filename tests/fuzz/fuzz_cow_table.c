/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exception store: a byte how many of its chunks of 4 KiB there are, three
 * how many the origin has, then the header's 16 bytes, then pairs of numbers
 * of 4 bytes each, which are laid out as the table from its first area on.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "kmod-free/track/cow_table.h"
#include "tests/fuzz/fuzz.h"

#define CHUNK 4096u
#define FIT (CHUNK / 16)

static void
put(int fd, const void *p, size_t n, uint64_t off)
{
	MUST(pwrite(fd, p, n, (off_t)off) == (ssize_t)n);
}

static void
put_pairs(int fd, const uint8_t *p, size_t len, uint64_t end)
{
	for (uint64_t n = 0; len > 0; n++) {
		uint64_t at =
		    (1 + (FIT + 1) * (n / FIT)) * CHUNK + n % FIT * 16;
		uint8_t pair[16];

		bytes_put_le64(pair, fuzz_u64(&p, &len, 4));
		bytes_put_le64(pair + 8, fuzz_u64(&p, &len, 4));
		if (at + 16 > end)
			return;
		put(fd, pair, sizeof pair, at);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint64_t end = fuzz_u64(&data, &len, 1) * 5 * CHUNK;
	uint64_t origin = fuzz_u64(&data, &len, 3) * CHUNK;
	size_t header = len < 16 ? len : 16;
	struct cow_table_info info;
	struct extents x = {.max = 64};
	struct err e = ERR_NONE;
	int fd = memfd_create("store", MFD_CLOEXEC);

	MUST(fd >= 0);
	MUST(ftruncate(fd, (off_t)end) == 0);
	if (end > 0) {
		put(fd, data, header, 0);
		put_pairs(fd, data + header, len - header, end);
	}
	if (cow_table_read(fd, origin, &info, &x, &e) == 0) {
		MUST(x.settled);
		for (size_t i = 0; i < x.n; i++)
			MUST(x.v[i].len <= origin &&
			     x.v[i].off <= origin - x.v[i].len);
		MUST((x.n > 0) == (info.chunks > 0));
	} else {
		MUST(x.v == NULL && e.code < 0);
	}
	extents_fini(&x);
	close(fd);
	return 0;
}
