/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/switches.h"

#include <stdarg.h>
#include <string.h>

#include "agent/core/mem.h"

struct fixed {
	int since; /* major version */
	const char *setting;
};

static const struct fixed fixed[] = {
    /* Nobody is reached, nobody reaches it. */
    {0, "listen_addresses="},
    {0, "port=5432"},
    {0, "unix_socket_permissions=0700"},
    {0, "unix_socket_group="},
    {0, "ssl=off"},
    {0, "bonjour=off"},
    {0, "archive_mode=off"},
    {0, "archive_command="},
    {15, "archive_library="},
    {0, "restore_command="},
    {0, "archive_cleanup_command="},
    {0, "recovery_end_command="},
    {0, "primary_conninfo="},
    {0, "primary_slot_name="},
    {0, "hot_standby=off"},
    {17, "sync_replication_slots=off"},
    {0, "synchronous_standby_names="},
    {0, "max_logical_replication_workers=0"},
    /* Nothing acts by itself, nothing foreign is loaded. */
    {0, "autovacuum=off"},
    {0, "session_preload_libraries="},
    {0, "local_preload_libraries="},
    {0, "jit=off"},
    {17, "summarize_wal=off"},
    {17, "event_triggers=off"},
    /* All of the log that there is. */
    {0, "recovery_target="},
    {0, "recovery_target_lsn="},
    {0, "recovery_target_name="},
    {0, "recovery_target_time="},
    {0, "recovery_target_xid="},
    {0, "recovery_target_timeline=latest"},
    /* Damage must show. */
    {0, "ignore_checksum_failure=off"},
    {0, "zero_damaged_pages=off"},
    {14, "ignore_invalid_pages=off"},
    {0, "restart_after_crash=off"},
    /* It fits a small host, and a copy that is thrown away needs no sync. */
    {0, "shared_buffers=128MB"},
    {0, "huge_pages=off"},
    {0, "fsync=off"},
    {0, "full_page_writes=off"},
    {0, "synchronous_commit=off"},
    {0, "temp_tablespaces="},
    {0, "external_pid_file="},
    /* A log that we can read. */
    {0, "logging_collector=on"},
    {0, "log_destination=stderr"},
    {0, "log_filename=server.log"},
    {0, "log_rotation_age=0"},
    {0, "log_rotation_size=0"},
    {0, "log_truncate_on_rotation=off"},
    {0, "log_file_mode=0600"},
    {0, "log_min_messages=warning"},
    {0, "log_min_error_statement=panic"},
    {0, "log_statement=none"},
    {0, "log_error_verbosity=default"},
    {0, "log_line_prefix=%m [%p] "},
    {0, "lc_messages=C"},
};

/*
 * The log of a server refuses to be replayed with less of these than it was
 * written with; names as pg_controldata and postgresql.conf have them.
 */
static const char *const kept[][2] = {
    {"wal_level setting", "wal_level"},
    {"max_connections setting", "max_connections"},
    {"max_worker_processes setting", "max_worker_processes"},
    {"max_wal_senders setting", "max_wal_senders"},
    {"max_prepared_xacts setting", "max_prepared_transactions"},
    {"max_locks_per_xact setting", "max_locks_per_transaction"},
    {"track_commit_timestamp setting", "track_commit_timestamp"},
};

static void
push(struct switches *w, char *text)
{
	MEM_ROOM(w->argv, w->n, w->cap);
	w->argv[w->n++] = text;
}

static void __attribute__((format(printf, 2, 3)))
set(struct switches *w, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	push(w, mem_str("-c"));
	push(w, mem_str(text));
}

void
switches_init(struct switches *w, const struct copy *c, const struct serve *s,
    const char *dir, const char *preload)
{
	long slots = strtol(copy_probed(s, "max_replication_slots"), NULL, 10);

	*w = (struct switches){0};
	push(w, mem_printf("%s/postgres", c->bindir));
	push(w, mem_str("-D"));
	push(w, mem_str(c->data));
	set(w, "config_file=%s/postgresql.conf", dir);
	set(w, "hba_file=%s/pg_hba.conf", dir);
	set(w, "ident_file=%s/pg_ident.conf", dir);
	set(w, "unix_socket_directories=%s", dir);
	set(w, "log_directory=%s/log", dir);
	set(w, "shared_preload_libraries=%s", preload);
	for (size_t i = 0; i < MEM_COUNT(fixed); i++)
		if (c->major >= fixed[i].since)
			set(w, "%s", fixed[i].setting);
	for (size_t i = 0; i < MEM_COUNT(kept); i++)
		if (copy_control(c, kept[i][0])[0] != '\0')
			set(w, "%s=%s", kept[i][1],
			    copy_control(c, kept[i][0]));
	/* Also the room for replication origins: one too few is a PANIC. */
	set(w, "max_replication_slots=%ld", slots > 10 ? slots : 10);
	MEM_ROOM(w->argv, w->n, w->cap);
	w->argv[w->n] = NULL;
}

void
switches_fini(struct switches *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->argv[i]);
	free(w->argv);
}
