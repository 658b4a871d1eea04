/*
 * A backup's tree put into a folder: one walker, a worker for each processor.
 * The walker makes names in order and queues what is to be written; workers
 * decode and write. Memory is bounded, whatever the size.
 *
 * A damaged chunk does not stop it: the range is left as a hole, named, and
 * the result is -EBADMSG.
 */
#ifndef NEAP_TOOLS_EXTRACT_H
#define NEAP_TOOLS_EXTRACT_H

#include "tools/backup.h"
#include "tools/pattern.h"

struct extract_how {
	struct store *store; /* store_reading was called */
	struct backup *backup;
	struct pattern_list *patterns; /* n == 0: everything */
	const char *target; /* a folder, or a block device for one image */
	/*
	 * In place: of files that are there only blocks that differ are written;
	 * within the backed-up paths, what the backup has not is removed.
	 */
	bool delta;
};

struct extract_stats {
	uint64_t files, folders, others; /* made or looked at */
	uint64_t bytes;                  /* of files, holes included */
	uint64_t written_bytes;
	uint64_t removed; /* names, with all that was below */
	uint64_t damaged; /* ranges that could not be restored */
	uint64_t unset;   /* names that miss some attribute */
};

/* `stats` is filled also on failure. */
int extract_run(
    const struct extract_how *how, struct extract_stats *stats, struct err *e);

#endif
