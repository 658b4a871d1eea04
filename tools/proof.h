/*
 * A backup brought to life: mounted writable on a scratch that is thrown away,
 * its engine's hook run on it in a sandbox. `check` and `dump` are this with
 * different verbs. Leaves nothing behind, however it ends.
 */
#ifndef NEAP_TOOLS_PROOF_H
#define NEAP_TOOLS_PROOF_H

#include <jansson.h>

#include "tools/backup.h"
#include "tools/mount.h"
#include "tools/tool.h"

/* Within the sandbox. */
#define PROOF_RUN "/run/neap"
#define PROOF_OUT "/run/neap-out"

struct proof_how {
	const char *backup; /* as the user names it */
	const char
	    *scratch; /* where the throw-away folders go; NULL: $TMPDIR */
	int64_t timeout_ms;
	/* dump: a folder of ours for its output, as it lies outside; or NULL */
	const char *out;
	const char *database; /* dump: or NULL */
};

struct proof_result {
	char name[CATALOG_JOB_MAX + 24]; /* of the backup, "" if not found */
	struct catalog_entry entry;
	char *engine;
	json_t *doc; /* what `validate` said, or NULL */
	int64_t mount_ms, total_ms;
	struct mount_stats stats;
};

void proof_result_free(struct proof_result *r);
#define SCOPED_PROOF __attribute__((cleanup(proof_result_free)))

/*
 * `t` is located, its store not open. -EBADMSG: damage; others: could not.
 * *r is filled as far as it came.
 */
int proof_run(struct tool *t, const struct proof_how *how,
    struct proof_result *r, struct err *e);

#endif
