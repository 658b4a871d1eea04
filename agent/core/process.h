/*
 * Child processes: started without a shell, in a process group of their own,
 * with pipes to standard input, output and error, and a deadline on every wait.
 * One thread uses a process at a time.
 */
#ifndef NEAP_CORE_PROCESS_H
#define NEAP_CORE_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

#define PROCESS_OUTPUT_MAX (4u << 20) /* kept of each stream; more is dropped */

struct process {
	pid_t pid;                           /* -1: none */
	int in, out, err_fd;                 /* our ends; -1 where closed */
	struct buf stdout_text, stderr_text; /* what came and was not taken */
};

#define PROCESS_NONE                                                           \
	{                                                                      \
		.pid = -1, .in = -1, .out = -1, .err_fd = -1                   \
	}

struct process_how {
	const char *const *argv;    /* argv[0] is a path; NULL-terminated */
	const char *const *env_add; /* "NAME=value", NULL-terminated, or NULL */
	uid_t uid;                  /* become this user when we are root; */
	gid_t gid;                  /* (uid_t)-1: stay */
	const char *cwd;            /* or NULL */
	/* SIGKILL to the child when the parent thread dies. */
	int die_with_parent;
	/* It goes on when nobody reads what it says any more. */
	int outlives_us;
};

int process_start(
    struct process *p, const struct process_how *how, struct err *e);

/*
 * The next line of standard output without its newline; gives. -ETIMEDOUT after
 * `deadline_ms` (clock_mono_ms time), -EPIPE at its end. Collects stderr.
 */
int process_line(
    struct process *p, int64_t deadline_ms, char **line, struct err *e);
int process_write(struct process *p, const void *data, size_t n, struct err *e);
void process_close_stdin(struct process *p);

/*
 * Read both streams to their end, then reap. *status is the exit status, or
 * 128 + the signal. -ETIMEDOUT: still running (the caller decides).
 */
int process_wait(
    struct process *p, int64_t deadline_ms, int *status, struct err *e);
/* SIGTERM to the group, `grace_ms` later SIGKILL, reap. Idempotent. */
void process_end(struct process *p, int64_t grace_ms);
/* End (2 s of grace) and free. */
void process_fini(struct process *p);
#define SCOPED_PROCESS __attribute__((cleanup(process_fini)))

/* Start, close its input, wait; the common case. Output in p->stdout_text. */
int process_run(struct process *p, const struct process_how *how,
    int64_t timeout_ms, int *status, struct err *e);

/* The last line of stderr (or "no message"), for error texts; borrowed. */
const char *process_complaint(struct process *p);

#endif
