/*
 * Suspending a device of device-mapper and letting it go on, without one
 * allocation or lock: for the guard of freeze.h, which may not wait for memory
 * while file systems are frozen. All else of device-mapper is in dm.h.
 *
 * These return 0 or -errno, and may be called after a fork and in a signal
 * handler.
 */
#ifndef NEAP_SNAP_DM_SUSPEND_H
#define NEAP_SNAP_DM_SUSPEND_H

#include "agent/core/err.h"

/* The descriptor that the others take; gives. */
int dm_control_open(struct err *e);
/* Freezes the file system on it, waits until what was begun is written, and
 * holds all that comes. A device that is suspended stays so: 0. */
int dm_suspend(int control, const char *uuid);
int dm_resume(int control, const char *uuid);
/* 1: it is; 0: it is not. */
int dm_suspended(int control, const char *uuid);

#endif
