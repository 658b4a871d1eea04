/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/sqlite/dbfile.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xff534d42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xfe534d42
#endif

/* File systems whose locks or snapshots another machine decides about. */
static void
refuse_network(json_t *refuse, const char *path)
{
	static const struct {
		long magic;
		const char *name;
	} far[] = {
	    {NFS_SUPER_MAGIC, "NFS"},
	    {CIFS_SUPER_MAGIC, "CIFS"},
	    {SMB2_SUPER_MAGIC, "SMB"},
	    {SMB_SUPER_MAGIC, "SMB"},
	    {CEPH_SUPER_MAGIC, "CephFS"},
	    {AFS_SUPER_MAGIC, "AFS"},
	    {FUSE_SUPER_MAGIC, "FUSE"},
	};
	struct statfs fs;

	if (statfs(path, &fs) < 0) {
		serve_note(refuse, "%s: its file system does not answer: %s",
		    path, strerrordesc_np(errno));
		return;
	}
	for (size_t i = 0; i < MEM_COUNT(far); i++)
		if ((uint32_t)fs.f_type == (uint32_t)far[i].magic)
			serve_note(refuse,
			    "%s lies on %s, where this host "
			    "can take no snapshot and SQLite's locks may not "
			    "hold; move it to a local file system",
			    path, far[i].name);
}

/* A link to elsewhere would be frozen at another instant than the database. */
static void
refuse_sidecar(json_t *refuse, const struct dbfile *f, const char *side)
{
	struct stat db, st;

	if (lstat(side, &st) < 0)
		return;
	if (S_ISLNK(st.st_mode))
		serve_note(refuse,
		    "%s is a link; SQLite's log must lie beside "
		    "its database: replace the link by the file",
		    side);
	else if (stat(f->path, &db) < 0 || db.st_dev != st.st_dev)
		serve_note(refuse,
		    "%s is on another file system than %s; put "
		    "both in one folder",
		    side, f->path);
}

/*
 * The name of a super-journal ends a journal that is part of a transaction
 * over several databases: name, length (4), checksum (4), magic (8).
 */
static void
note_super_journal(json_t *notes, const struct dbfile *f)
{
	static const uint8_t magic[8] = {
	    0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
	SCOPED_FD int fd = open(f->journal, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t tail[16];
	struct stat st;
	struct err ignored = ERR_NONE;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < 16 ||
	    fs_pread(fd, tail, 16, (uint64_t)st.st_size - 16, &ignored) < 0)
		return;
	if (memcmp(tail + 8, magic, 8) == 0)
		serve_note(notes,
		    "%s belongs to a transaction over several "
		    "attached databases: only a snapshot that holds them all "
		    "is one instant for all",
		    f->journal);
}

static json_t *
position(const struct dbfile *f)
{
	struct stat st;
	json_int_t wal = f->has_wal && stat(f->wal, &st) == 0 ? st.st_size : 0;

	return json_pack("{s:I, s:I, s:I}", "change_counter",
	    (json_int_t)f->change_counter, "size", (json_int_t)f->size,
	    "wal_size", wal);
}

static void
fill(json_t *doc, const struct dbfile *f)
{
	json_t *paths = json_object_get(doc, "paths");
	json_t *refuse = json_object_get(doc, "refuse");
	json_t *notes = json_object_get(doc, "notes");

	serve_add_path(paths, f->path, "data", false);
	serve_add_path(paths, f->wal, "wal", true);
	serve_add_path(paths, f->journal, "wal", true);
	json_object_set_new(doc, "settings",
	    json_pack("{s:s, s:i, s:b, s:b, s:b}", "journal_mode",
		f->wal_mode ? "wal" : "rollback", "schema_cookie",
		(int)f->schema_cookie, "wal_present", f->has_wal,
		"journal_present", f->has_journal, "shm_present", f->has_shm));
	json_object_set_new(doc, "position", position(f));
	refuse_network(refuse, f->path);
	refuse_sidecar(refuse, f, f->wal);
	refuse_sidecar(refuse, f, f->journal);
	if (f->has_journal)
		note_super_journal(notes, f);
	if (f->size == 0)
		serve_note(notes,
		    "%s is empty: a database in which nothing "
		    "was created",
		    f->path);
}

int
probe_file(const struct serve *s, struct err *e)
{
	SCOPED_DBFILE struct dbfile f = {0};
	SCOPED_JSON json_t *doc = NULL;
	const char *path;
	json_t *owner;
	int rc;

	if (serve_path(s, &path, e) < 0)
		return e->code;
	rc = dbfile_open(&f, path, e);
	if (rc < 0 && rc != -EBADMSG)
		return rc;
	if (serve_owner(&owner, f.path, e) < 0)
		return e->code;
	doc = json_pack("{s:s, s:s, s:s, s:I, s:[], s:[], s:[], s:s, s:o}",
	    "engine", "sqlite", "version", sqlite3_libversion(), "method",
	    "atomic", "page_size", (json_int_t)f.page_size, "paths", "refuse",
	    "notes", "instance", "", "owner", owner);
	json_object_set_new(doc, "instance", jdoc_new_str(f.path));
	fill(doc, &f);
	if (rc == -EBADMSG)
		serve_note(json_object_get(doc, "refuse"),
		    "%s; correct "
		    "\"path\", or use engine files",
		    e->text);
	return serve_print(doc, e);
}
