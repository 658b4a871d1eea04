/*
 * What a program says while it works: notices and warnings to standard error,
 * one line each, and a progress bar on a terminal. Only programs and use cases
 * (agent/job, tools) speak; libraries return their text in struct err.
 * Lines may come from any thread. While a hold is on (log_hold), lines are
 * kept in a fixed buffer and written at log_release: between quiesce and
 * release nothing may block on a file system that waits for us.
 */
#ifndef NEAP_CORE_LOG_H
#define NEAP_CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_AT_QUIET, LOG_AT_WARN, LOG_AT_NOTICE, LOG_AT_DEBUG };

/* Set once at program start; `program` is kept. */
void log_init(const char *program, enum log_level level, bool progress);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void log_hold(void);
void log_release(void);

/*
 * Progress of a task: a bar on a terminal at most ten times a second, a plain
 * line every ten seconds elsewhere. total 0: unknown. log_progress_end clears.
 */
void log_progress(const char *what, uint64_t done_bytes, uint64_t total_bytes);
void log_progress_end(void);

#endif
