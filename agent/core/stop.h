/*
 * "Told to stop": SIGINT, SIGTERM and SIGHUP set a flag that long loops look
 * at; a second signal of the kind ends the process at once. What an ended
 * process leaves is found and mended by the next run.
 */
#ifndef NEAP_CORE_STOP_H
#define NEAP_CORE_STOP_H

#include <stdbool.h>

#include "agent/core/err.h"

void stop_install(void); /* at program start, before any thread */
bool stop_requested(void);
int stop_check(struct err *e); /* 0, or -ECANCELED with the text */

#endif
