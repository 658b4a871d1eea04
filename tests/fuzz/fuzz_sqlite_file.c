/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a SQLite database; the first byte says how much longer than
 * what follows the file is, in units of 64 bytes. */
#include <errno.h>

#include "agent/hooks/sqlite/dbfile.h"
#include "tests/fuzz/fuzz_dir.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_FREE char *path = fs_join(fuzz_dir(), "db");
	off_t more = (off_t)fuzz_u64(&data, &len, 1) * 64;
	SCOPED_DBFILE struct dbfile f = {0};
	struct err e = ERR_NONE;

	fuzz_dir_put("db", SPAN(data, len), (off_t)len + more);
	if (dbfile_open(&f, path, &e) < 0) {
		MUST(e.code == -EBADMSG);
		return 0;
	}
	MUST(f.size == len + (uint64_t)more);
	MUST(!f.has_wal && !f.has_journal && !f.has_shm);
	if (f.size == 0)
		return 0;
	MUST(f.size >= 100);
	MUST(f.page_size >= 512 && f.page_size <= 65536);
	MUST((f.page_size & (f.page_size - 1)) == 0);
	return 0;
}
