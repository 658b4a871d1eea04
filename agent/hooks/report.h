/*
 * The report of `validate`: one entry per step, and a verdict that follows
 * from them. Damaged, could not check and passed are three answers: one
 * failed step is damage, however much else could not run.
 */
#ifndef NEAP_HOOKS_REPORT_H
#define NEAP_HOOKS_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "agent/core/err.h"

enum report_result {
	REPORT_PASSED,
	REPORT_FAILED,
	REPORT_SKIPPED,
	REPORT_COULD_NOT
};

struct report {
	json_t *doc, *steps;
	bool failed, unchecked;
	char first[512]; /* the first bad step, for the one-line complaint */
	int64_t step_ms; /* when the step in hand began */
};

void report_init(struct report *r, const char *engine);
void report_fini(struct report *r);
#define SCOPED_REPORT __attribute__((cleanup(report_fini)))

/* The clock of the next report_step starts here (and after each step). */
void report_start(struct report *r);
void report_step(struct report *r, const char *name, enum report_result result,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* An error as a step: damage where its code is -EBADMSG, else could not. */
void report_error(struct report *r, const char *name, const struct err *e);

/*
 * Print it with its verdict: 0 passed, -EBADMSG damage, -ENODATA could not
 * check; the codes that serve.h turns into exit statuses.
 */
int report_end(struct report *r, struct err *e);

#endif
