/* Sizes on the command line: "64M", "1G", "512k"; powers of 1024. */
#ifndef NEAP_TOOLS_SIZE_OPTION_H
#define NEAP_TOOLS_SIZE_OPTION_H

#include <stdint.h>

#include "agent/core/err.h"

int size_option(uint64_t *out, const char *text, struct err *e); /* -EINVAL */

#endif
