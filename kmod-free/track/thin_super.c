/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/thin_super.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/bytes.h"
#include "agent/core/mem.h"

enum {
	AT_SUM = 0,
	AT_FLAGS = 4,
	AT_BLOCK = 8,
	AT_MAGIC = 32,
	AT_VERSION = 40,
	AT_TRANSACTION = 48,
	AT_HELD = 56,
	AT_MAPPING = 320,
	AT_DETAILS = 328,
	AT_DATA_BLOCK = 336,     /* sectors of 512 bytes */
	AT_METADATA_BLOCK = 340, /* likewise */
	AT_INCOMPAT = 360,
};

#define MAGIC 27022010u
#define VERSION 2u
#define FLAG_NEEDS_CHECK 1u
#define SECTOR 512u
#define DATA_BLOCK_MIN (64u << 10) /* and its multiples; dm-thin.c */
#define DATA_BLOCK_MAX (1u << 30)
#define READS_MAX 10

static int
parse(const struct thin_disk *d, uint64_t block, const uint8_t *p,
    struct thin_super *out, struct err *e)
{
	uint32_t sectors = bytes_le32(p + AT_DATA_BLOCK);
	struct thin_super s = {
	    .needs_check = bytes_le32(p + AT_FLAGS) & FLAG_NEEDS_CHECK,
	    .transaction = bytes_le64(p + AT_TRANSACTION),
	    .held = bytes_le64(p + AT_HELD),
	    .mapping_root = bytes_le64(p + AT_MAPPING),
	    .details_root = bytes_le64(p + AT_DETAILS),
	};

	if (bytes_le32(p + AT_VERSION) != VERSION)
		return err_set(e, -EOPNOTSUPP,
		    "the thin pool's metadata has version %u, we know %u",
		    bytes_le32(p + AT_VERSION), VERSION);
	if (bytes_le32(p + AT_INCOMPAT) != 0)
		return err_set(e, -EOPNOTSUPP,
		    "the thin pool's metadata has features (0x%x) that we do "
		    "not know",
		    bytes_le32(p + AT_INCOMPAT));
	if (bytes_le32(p + AT_METADATA_BLOCK) != THIN_BLOCK_LEN / SECTOR)
		return thin_disk_bad(
		    block, "blocks of metadata are not of 4 KiB", e);
	if (sectors % (DATA_BLOCK_MIN / SECTOR) != 0 || sectors == 0 ||
	    sectors > DATA_BLOCK_MAX / SECTOR)
		return thin_disk_bad(
		    block, "no pool has blocks of the size it says", e);
	s.block_bytes = sectors * SECTOR;
	if (s.mapping_root == 0 || s.mapping_root >= d->blocks ||
	    s.details_root == 0 || s.details_root >= d->blocks ||
	    s.held >= d->blocks)
		return thin_disk_bad(
		    block, "it leads outside the metadata device", e);
	*out = s;
	return 0;
}

static int
check(uint64_t block, const uint8_t *p, struct err *e)
{
	if (bytes_le64(p + AT_MAGIC) != MAGIC)
		return thin_disk_bad(
		    block, "it is no superblock of a thin pool", e);
	if (bytes_le32(p + AT_SUM) != thin_disk_sum(p, THIN_SALT_SUPER))
		return thin_disk_bad(block, "its checksum is wrong", e);
	if (bytes_le64(p + AT_BLOCK) != block)
		return thin_disk_bad(
		    block, "it was written for another place", e);
	return 0;
}

int
thin_super_read(struct thin_disk *d, uint64_t block, uint8_t *page,
    struct thin_super *out, struct err *e)
{
	uint8_t before[THIN_BLOCK_LEN];
	int rc = thin_disk_read(d, block, page, e);

	if (rc < 0)
		return rc;
	rc = check(block, page, e);
	for (int i = 1; rc == -EBADMSG && i < READS_MAX; i++) {
		memcpy(before, page, sizeof before);
		rc = thin_disk_read(d, block, page, e);
		if (rc < 0)
			return rc;
		rc = check(block, page, e);
		if (memcmp(before, page, sizeof before) == 0)
			break;
	}
	if (rc < 0)
		return rc;
	err_clear(e);
	return parse(d, block, page, out, e);
}
