/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata of a thin pool: a byte how, then its blocks, each a length of two
 * bytes and what it begins with; the rest of it is zeros. How: bit 7, the
 * checksums are made right and the blocks told their numbers; bit 0, a metadata
 * snapshot is held. Devices 1 and 2 are walked and compared.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "kmod-free/track/thin_btree.h"
#include "kmod-free/track/thin_meta.h"
#include "tests/fuzz/fuzz.h"

#define BLOCKS 64
#define MAGIC 27022010u
#define KEPT 4096 /* mappings of a device */

struct mapping {
	uint64_t block, data;
};

struct device {
	struct mapping v[KEPT];
	size_t n;
	bool more, walked;
};

static void
mend(uint8_t *p, uint64_t block)
{
	bool super = bytes_le64(p + 32) == MAGIC;

	bytes_put_le64(p + 8, block);
	bytes_put_le32(
	    p, thin_disk_sum(p, super ? THIN_SALT_SUPER : THIN_SALT_NODE));
}

/* Lays the blocks out in a file. */
static void
lay_out(int fd, bool mended, const uint8_t *p, size_t len)
{
	for (uint64_t block = 0; block < BLOCKS && len > 0; block++) {
		uint8_t page[THIN_BLOCK_LEN] = {0};
		size_t n = (size_t)fuzz_u64(&p, &len, 2);

		if (n > len)
			n = len;
		if (n > sizeof page)
			n = sizeof page;
		memcpy(page, p, n);
		p += n;
		len -= n;
		if (mended)
			mend(page, block);
		MUST(pwrite(fd, page, sizeof page,
			 (off_t)(block * sizeof page)) == sizeof page);
	}
}

static int
on_range(
    void *arg, uint64_t first, uint64_t data, uint64_t count, struct err *e)
{
	struct device *d = arg;

	(void)e;
	MUST(count > 0 && first < 1ull << 47 && data < 1ull << 40);
	for (uint64_t i = 0; i < count; i++) {
		if (d->n == KEPT) {
			d->more = true;
			return 0;
		}
		MUST(d->n == 0 || d->v[d->n - 1].block < first + i);
		d->v[d->n++] = (struct mapping){first + i, data + i};
	}
	return 0;
}

/* What the two walks say, side by side. */
struct check {
	const struct device *a, *b;
	size_t i, k;
};

/* 0 to 2: a thin_meta_side and its block; -1: no more. */
static int
next_difference(struct check *c, uint64_t *block)
{
	while (c->i < c->a->n || c->k < c->b->n) {
		const struct mapping *x = &c->a->v[c->i], *y = &c->b->v[c->k];

		if (c->k == c->b->n ||
		    (c->i < c->a->n && x->block < y->block)) {
			c->i++;
			*block = x->block;
			return THIN_META_ONLY_FROM;
		}
		*block = y->block;
		c->k++;
		if (c->i == c->a->n || y->block < x->block)
			return THIN_META_ONLY_TO;
		c->i++;
		if (x->data != y->data)
			return THIN_META_DIFFERENT;
	}
	return -1;
}

static int
on_difference(void *arg, enum thin_meta_side side, uint64_t first,
    uint64_t count, struct err *e)
{
	struct check *c = arg;
	uint64_t block;

	(void)e;
	MUST(count > 0);
	if (c == NULL)
		return 0;
	for (uint64_t i = 0; i < count; i++) {
		MUST(next_difference(c, &block) == (int)side);
		MUST(block == first + i);
	}
	return 0;
}

static void
walk(struct thin_meta *m, uint32_t id, struct device *d)
{
	struct thin_meta_details details;
	struct err e = ERR_NONE;

	d->n = 0;
	d->more = false;
	d->walked = thin_meta_walk(m, id, on_range, d, &e) == 0;
	thin_meta_device(m, id, &details, &e);
}

static void
compare(struct thin_meta *m, const struct device *a, const struct device *b)
{
	struct check c = {.a = a, .b = b};
	struct err e = ERR_NONE;
	uint64_t block;

	if (!a->walked || !b->walked || a->more || b->more) {
		thin_meta_compare(m, 1, 2, on_difference, NULL, &e);
		return;
	}
	/* Both are whole: then so is the comparison, and right. */
	MUST(thin_meta_compare(m, 1, 2, on_difference, &c, &e) == 0);
	MUST(next_difference(&c, &block) == -1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct device a, b;
	unsigned how = (unsigned)fuzz_u64(&data, &len, 1);
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct err e = ERR_NONE;
	int fd = memfd_create("metadata", MFD_CLOEXEC);

	MUST(fd >= 0);
	lay_out(fd, how & 128, data, len);
	if (thin_meta_open(&m, fd, how & 1, &e) == 0) {
		walk(m, 1, &a);
		walk(m, 2, &b);
		compare(m, &a, &b);
		MUST(thin_meta_check_held(m, &e) == 0);
	}
	close(fd);
	return 0;
}
