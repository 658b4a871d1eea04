/*
 * A passphrase for a key slot, from a file: its first line without the
 * newline, so that an editor's final newline or a note below does not count.
 */
#ifndef NEAP_STORE_PASSPHRASE_H
#define NEAP_STORE_PASSPHRASE_H

#include "agent/core/err.h"

/* Gives. -EINVAL: an empty first line, or a NUL byte in it. */
int passphrase_load(char **out, const char *path, struct err *e);

#endif
