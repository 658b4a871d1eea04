/*
 * How a job is doing: what `neap status` shows and scripts and alarms ask.
 * Missing, corrupt and could-not-check are three answers; none is green.
 */
#ifndef NEAP_JOB_HEALTH_H
#define NEAP_JOB_HEALTH_H

#include <jansson.h>

#include "agent/conf/conf.h"
#include "agent/store/store.h"

enum health { HEALTH_OK, HEALTH_PROBLEM, HEALTH_CORRUPT, HEALTH_UNPROVEN };

/*
 * Gives the document {"job", "health", "problems": […], "last_backup", …}.
 * *worst is the job's health.
 */
int health_of(const struct conf *c, const struct conf_job *j,
    const struct store *s, json_t **doc, enum health *worst, struct err *e);
const char *health_word(enum health h);
int health_exit_status(enum health h); /* 0, 1, 4, 5 */

#endif
