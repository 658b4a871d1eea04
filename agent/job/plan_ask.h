/*
 * The hook at work for a plan, in a thread of its own. Private to plan.c.
 */
#ifndef NEAP_JOB_PLAN_ASK_H
#define NEAP_JOB_PLAN_ASK_H

#include "agent/job/plan.h"

/* Wait for the probe that plan_ask started; it is the plan's from then on. */
int plan_answer(struct plan *p, struct err *e);
/* Wait for it, for nothing: at most as long as the hook may take. */
void plan_hush(struct plan *p);

#endif
