/*
 * device-mapper, asked through libdevmapper: the status of a device and
 * messages to it. Devices are named by their UUID, which has no escapes and is
 * never given to another. One thread's.
 */
#ifndef NEAP_SNAP_DM_H
#define NEAP_SNAP_DM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/err.h"

/* Type and status words of a device with one target ("thin-pool",
 * "1 12/4161600 …"); gives both. -ENOENT: no such device. */
int dm_status(const char *uuid, char **type, char **status, struct err *e);
/* Its number. -ENOENT. */
int dm_device(const char *uuid, dev_t *out, struct err *e);
/* Opens a device of this number for reading, with these flags besides. Without
 * udev it has no other name. */
int dm_open(dev_t dev, int flags, struct err *e);
/* Of status words, a number and the one character behind it, or the end; moves *s
 * behind both. */
bool dm_take_number(const char **s, char behind, uint64_t *out);
int dm_message(const char *uuid, const char *text, struct err *e);

#endif
