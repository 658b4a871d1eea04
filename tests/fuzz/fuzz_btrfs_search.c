/* SPDX-License-Identifier: Apache-2.0 */
/* A reply of BTRFS_IOC_TREE_SEARCH_V2, taken apart as the trackers do. */
#include "kmod-free/io/btrfs_search.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct cursor reply = cursor_of(SPAN(data, len));
	struct btrfs_search_item item;
	struct err e = ERR_NONE;

	while (btrfs_search_take(&reply, &item, &e) > 0) {
		struct btrfs_search_inode inode;
		struct btrfs_search_extent x;

		MUST((const uint8_t *)item.body.data + item.body.len <=
		     data + len);
		if (item.key.type == BTRFS_SEARCH_INODE)
			btrfs_search_inode(&item, &inode, &e);
		if (item.key.type != BTRFS_SEARCH_EXTENT ||
		    btrfs_search_extent(&item, &x, &e) < 0)
			continue;
		MUST(x.end >= x.start);
		/* An inline one is only said to be short. */
		if (x.data == BTRFS_SEARCH_INLINE)
			MUST(x.end - x.start <= 65536);
		else
			MUST(x.end <= 1ull << 63);
	}
	return 0;
}
