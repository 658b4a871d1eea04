/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/dbfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

#define HEADER_LEN 100

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

static int
parse_header(struct dbfile *f, const uint8_t h[HEADER_LEN], struct err *e)
{
	static const char magic[16] = "SQLite format 3";
	uint32_t page = (uint32_t)h[16] << 8 | h[17];

	if (memcmp(h, magic, sizeof magic) != 0)
		return err_set(e, -EBADMSG,
		    "%s is not a SQLite database "
		    "(or an encrypted one)",
		    f->path);
	if (page == 1)
		page = 65536; /* it does not fit into two bytes */
	if (page < 512 || (page & (page - 1)) != 0)
		return err_set(
		    e, -EBADMSG, "%s: impossible page size %u", f->path, page);
	f->page_size = page;
	/* Bytes 18 and 19, write and read version: 2 is WAL. */
	f->wal_mode = h[18] == 2 && h[19] == 2;
	f->change_counter = be32(h + 24);
	f->schema_cookie = be32(h + 40);
	f->version_number = be32(h + 96);
	return 0;
}

int
dbfile_open(struct dbfile *f, const char *path, struct err *e)
{
	uint8_t h[HEADER_LEN];
	struct stat st;
	int rc;

	*f = (struct dbfile){.path = fs_real(path, e)};
	if (f->path == NULL)
		return e->code;
	f->wal = mem_printf("%s-wal", f->path);
	f->journal = mem_printf("%s-journal", f->path);
	f->shm = mem_printf("%s-shm", f->path);
	f->has_wal = access(f->wal, F_OK) == 0;
	f->has_journal = access(f->journal, F_OK) == 0;
	f->has_shm = access(f->shm, F_OK) == 0;
	{
		SCOPED_FD int fd = open(f->path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || fstat(fd, &st) < 0)
			return err_sys(e, errno, "open %s", f->path);
		if (!S_ISREG(st.st_mode))
			return err_set(
			    e, -EINVAL, "%s is not a regular file", f->path);
		f->size = (uint64_t)st.st_size;
		if (f->size == 0)
			return 0;
		rc = fs_pread(fd, h, sizeof h, 0, e);
	}
	if (rc < 0)
		return err_wrap(e, "%s", f->path);
	return parse_header(f, h, e);
}

void
dbfile_fini(struct dbfile *f)
{
	free(f->path);
	free(f->wal);
	free(f->journal);
	free(f->shm);
}
