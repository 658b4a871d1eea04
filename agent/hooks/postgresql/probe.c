/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/verbs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/position.h"

#define VERSION_MIN 130000
#define VERSION_TESTED_END 180000

/* What decides about consistency, and what a boot of a copy must match. */
static const char *const wanted[] = {"data_directory", "config_file",
    "hba_file", "ident_file", "block_size", "data_checksums",
    "full_page_writes", "fsync", "wal_level", "archive_mode", "max_connections",
    "max_worker_processes", "max_wal_senders", "max_prepared_transactions",
    "max_locks_per_transaction", "max_replication_slots",
    "shared_preload_libraries", "logging_collector", "log_directory",
    "server_version_num", "server_version"};

struct found {
	PGconn *conn;
	json_t *doc, *paths, *settings, *refuse, *notes; /* members of doc */
	char *data;                                      /* real path */
};

static int
read_settings(struct found *f, struct err *e)
{
	for (size_t i = 0; i < MEM_COUNT(wanted); i++) {
		char value[CONN_TEXT];

		if (conn_value1(f->conn, value, "SELECT current_setting($1)",
			wanted[i], e) < 0) {
			if (e->code == -EACCES)
				err_hint(e, "GRANT pg_monitor to the role");
			return err_wrap(e, "setting %s", wanted[i]);
		}
		json_object_set_new(
		    f->settings, wanted[i], jdoc_new_str(value));
	}
	return 0;
}

static const char *
setting(const struct found *f, const char *name)
{
	return jdoc_str(f->settings, name, "");
}

/* `path` may be a link: a check of a copy must point it at the copy. */
static int
add_real(struct found *f, const char *path, const char *role, struct err *e)
{
	SCOPED_FREE char *real = fs_real(path, e);

	if (real == NULL) {
		if (e->code == -EACCES)
			err_hint(e, "the hook must run as the owner of the "
				    "data: set run_as");
		return e->code;
	}
	serve_add_path(f->paths, real, role, false);
	if (strcmp(real, path) != 0)
		json_object_set_new(
		    json_array_get(f->paths, json_array_size(f->paths) - 1),
		    "link", jdoc_new_str(path));
	return 0;
}

/* Asked from the server, and held against the links that are on disk. */
static int
add_tablespaces(struct found *f, struct err *e)
{
	SCOPED_RESULT PGresult *r = NULL;

	if (conn_query(&r, f->conn,
		"SELECT oid, spcname, pg_tablespace_location(oid) "
		"FROM pg_tablespace "
		"WHERE spcname NOT IN ('pg_default', 'pg_global') "
		"ORDER BY oid",
		e) < 0)
		return e->code;
	for (int i = 0; i < PQntuples(r); i++) {
		SCOPED_FREE char *link =
		    mem_printf("%s/pg_tblspc/%s", f->data, PQgetvalue(r, i, 0));
		const char *said = PQgetvalue(r, i, 2);
		SCOPED_FREE char *by_link = NULL, *by_name = NULL;
		struct err ignored = ERR_NONE;

		if (add_real(f, link, "tablespace", e) < 0)
			return err_wrap(
			    e, "tablespace %s", PQgetvalue(r, i, 1));
		by_link = fs_real(link, &ignored);
		if (said[0] == '/')
			by_name = fs_real(said, &ignored);
		if (by_name != NULL && by_link != NULL &&
		    strcmp(by_name, by_link) != 0)
			serve_note(f->notes,
			    "tablespace %s: the server names "
			    "%s, the link leads to %s",
			    PQgetvalue(r, i, 1), by_name, by_link);
	}
	return 0;
}

/* Debian keeps them in /etc: the folder holds what they include, too. */
static void
add_config(struct found *f)
{
	static const char *const files[] = {
	    "config_file", "hba_file", "ident_file"};
	char last[PATH_MAX] = "";

	for (size_t i = 0; i < MEM_COUNT(files); i++) {
		struct err ignored = ERR_NONE;
		SCOPED_FREE char *real =
		    fs_real(setting(f, files[i]), &ignored);
		char *slash = real != NULL ? strrchr(real, '/') : NULL;

		if (slash == NULL || fs_below(real, f->data))
			continue;
		if (slash != real)
			*slash = '\0';
		if (strcmp(last, real) == 0)
			continue;
		serve_add_path(f->paths, real, "config", false);
		snprintf(last, sizeof last, "%s", real);
	}
}

static int
add_paths(struct found *f, struct err *e)
{
	SCOPED_FREE char *wal = NULL;
	struct err ignored = ERR_NONE;
	const char *log = setting(f, "log_directory");

	f->data = fs_real(setting(f, "data_directory"), e);
	if (f->data == NULL) {
		err_hint(e, "the hook must run on the database host as the "
			    "owner of the data: set run_as");
		return e->code;
	}
	serve_add_path(f->paths, f->data, "data", false);
	/* Also where it is no link: it may be a subvolume of its own, which
	 * a snapshot of the data folder leaves out. */
	wal = fs_join(f->data, "pg_wal");
	if (add_real(f, wal, "wal", e) < 0 || add_tablespaces(f, e) < 0)
		return e->code;
	add_config(f);
	if (log[0] == '/' && strcmp(setting(f, "logging_collector"), "on") == 0)
		if (add_real(f, log, "log", &ignored) < 0)
			serve_note(f->notes, "%s", ignored.text);
	return 0;
}

static void
judge(struct found *f)
{
	long version = strtol(setting(f, "server_version_num"), NULL, 10);

	if (version < VERSION_MIN)
		serve_note(f->refuse,
		    "PostgreSQL %s: this hook knows 13 to "
		    "17; upgrade the server",
		    setting(f, "server_version"));
	if (version >= VERSION_TESTED_END)
		serve_note(f->notes,
		    "PostgreSQL %s is newer than what this "
		    "hook was tested with (13 to 17)",
		    setting(f, "server_version"));
	if (strcmp(setting(f, "full_page_writes"), "on") != 0)
		serve_note(f->refuse,
		    "full_page_writes is off: a snapshot may "
		    "hold half-written pages that recovery cannot mend; "
		    "set full_page_writes = on and reload");
	if (strcmp(setting(f, "fsync"), "on") != 0)
		serve_note(f->notes,
		    "fsync is off: a snapshot is as good as "
		    "the server's own death, but a power cut may destroy the "
		    "database; set fsync = on");
	if (strcmp(setting(f, "data_checksums"), "on") != 0)
		serve_note(f->notes,
		    "data checksums are off: a check of a "
		    "restore finds broken pages only through amcheck; see "
		    "pg_checksums --enable");
}

static int
look_inside(struct found *f, struct err *e)
{
	char n[CONN_TEXT];

	if (conn_value(f->conn, n,
		"SELECT count(*) FROM pg_class WHERE "
		"relpersistence = 'u' AND relkind IN ('r', 'm')",
		e) < 0)
		return e->code;
	if (strcmp(n, "0") != 0)
		serve_note(f->notes,
		    "%s unlogged tables in database %s: a "
		    "restore finds them empty",
		    n, PQdb(f->conn));
	if (conn_value(
		f->conn, n, "SELECT count(*) FROM pg_replication_slots", e) < 0)
		return e->code;
	if (strcmp(n, "0") != 0)
		serve_note(f->notes,
		    "%s replication slots: a check of a "
		    "restore drops them from its copy",
		    n);
	/* The bootstrap role: it exists in every copy and may do everything. */
	if (conn_value(f->conn, n,
		"SELECT rolname FROM pg_roles "
		"WHERE oid = 10",
		e) < 0)
		return e->code;
	json_object_set_new(f->settings, "superuser", jdoc_new_str(n));
	return 0;
}

static int
describe(struct found *f, struct err *e)
{
	json_t *position, *owner;

	if (position_read(&position, f->conn, e) < 0)
		return e->code;
	json_object_set_new(f->doc, "position", position);
	json_object_set_new(f->doc, "instance",
	    json_string(jdoc_str(position, "system_identifier", "")));
	json_object_set_new(
	    f->doc, "version", json_string(setting(f, "server_version")));
	json_object_set_new(f->doc, "page_size",
	    json_integer(strtol(setting(f, "block_size"), NULL, 10)));
	json_object_set_new(f->doc, "in_recovery",
	    json_boolean(
		strcmp(jdoc_str(position, "role", ""), "standby") == 0));
	if (serve_owner(&owner, f->data, e) < 0)
		return e->code;
	json_object_set_new(f->doc, "owner", owner);
	return 0;
}

static void
found_init(struct found *f)
{
	f->doc = json_pack("{s:s, s:s, s:[], s:{}, s:[], s:[]}", "engine",
	    "postgresql", "method", "atomic", "paths", "settings", "refuse",
	    "notes");
	f->paths = json_object_get(f->doc, "paths");
	f->settings = json_object_get(f->doc, "settings");
	f->refuse = json_object_get(f->doc, "refuse");
	f->notes = json_object_get(f->doc, "notes");
}

int
probe_server(const struct serve *s, struct err *e)
{
	SCOPED_CONN PGconn *c = NULL;
	struct found f = {0};
	int rc;

	if (conn_open(&c, s, e) < 0)
		return e->code;
	if (conn_do(c, "SET statement_timeout = 30000", e) < 0 ||
	    conn_do(c, "SET default_transaction_read_only = on", e) < 0)
		return e->code;
	found_init(&f);
	f.conn = c;
	rc = read_settings(&f, e);
	if (rc == 0)
		rc = add_paths(&f, e);
	if (rc == 0)
		rc = look_inside(&f, e);
	if (rc == 0)
		rc = describe(&f, e);
	if (rc == 0) {
		judge(&f);
		rc = serve_print(f.doc, e);
	}
	json_decref(f.doc);
	free(f.data);
	if (rc == 0 && s->kept != NULL)
		*s->kept = TAKE(c);
	return rc;
}
