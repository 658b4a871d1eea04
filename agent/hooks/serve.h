/*
 * The hook's side of the contract (neap-hook(7)), shared by the built-in
 * hooks: the command line, the settings, staying, the hold, the exit status. A
 * hook is then a table of verbs. One thread; errors come out as one line on stderr.
 */
#ifndef NEAP_HOOKS_SERVE_H
#define NEAP_HOOKS_SERVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/err.h"
#include "agent/core/process.h"

struct serve {
	const char *verb;
	const char *id; /* or "-" */
	const char *clone, *run,
	    *output;          /* absolute, where the verb has them */
	const char *database; /* or NULL */
	int64_t deadline_ms;  /* how long a hold may last */
	json_t *config;       /* an object */
	void **kept; /* not NULL: what probe puts there is quiesce's to take */
};

/*
 * A verb: 0, or an error whose code becomes the exit status: -EBUSY 75, -EPERM
 * 63, -EOPNOTSUPP 69, -EBADMSG 4 (damage), -ENODATA 5 (could not check),
 * -EINVAL 2, others 1.
 */
typedef int serve_verb(const struct serve *s, struct err *e);

struct serve_ops {
	const char *engine;
	serve_verb *probe, *quiesce; /* required */
	serve_verb *validate, *dump; /* or NULL: exit status 69 */
	serve_verb *thaw;            /* or NULL: nothing to do */
};

int serve_main(int argc, char **argv, const struct serve_ops *ops);

/* One line on standard output, at once. */
int serve_print(const json_t *doc, struct err *e);

enum serve_end { SERVE_RELEASED, SERVE_AGENT_GONE, SERVE_DEADLINE };

struct serve_hold {
	int64_t since_ms, until_ms; /* clock_mono_ms time */
	enum serve_end end;
};

/*
 * Say "quiesced" with `level`, `position` and `notes` (both taken over, may be
 * NULL), then wait for RELEASE, end of file or the deadline. Afterwards the
 * hook lets the engine go, whatever the end was, and calls serve_released.
 */
int serve_hold(struct serve_hold *h, const struct serve *s, const char *level,
    json_t *position, json_t *notes, struct err *e);
/*
 * Say "released". `lost` is what the hook found on the very connection that
 * held: NULL where all was well, else why the hold is lost; a deadline that
 * passed is said without it. Takes over `position` and `log` (which part of
 * its log the engine needs, neap-hook(7)) and `notes`; all may be NULL.
 */
int serve_released(const struct serve_hold *h, const char *lost,
    json_t *position, json_t *log, json_t *notes, struct err *e);

/* The member "connection" of the settings; NULL where there is none. */
const json_t *serve_connection(const struct serve *s);
/* "path" of the settings, absolute; -EINVAL otherwise. */
int serve_path(const struct serve *s, const char **path, struct err *e);
/* An absolute `path` of the backup as it lies below --clone; gives. */
char *serve_clone_path(const struct serve *s, const char *path);

/* {"uid":…,"gid":…,"name":…} of the file at `path`. */
int serve_owner(json_t **owner, const char *path, struct err *e);
/* Append {"path":…,"role":…} to `paths`; `optional`: it may be absent. */
void serve_add_path(
    json_t *paths, const char *path, const char *role, bool optional);
/* Append a formatted text to a JSON list. */
void serve_note(json_t *list, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Run one of the engine's tools to its end; `argv[0]` is a path. Output stays
 * in `p`. A caller with a deadline ends us all, so there is none here.
 */
int serve_tool(
    struct process *p, const char *const *argv, int *status, struct err *e);

#endif
