/*
 * The file system of a sandbox. Called inside its new namespaces, as root.
 */
#ifndef NEAP_TOOLS_SANDBOX_ROOT_H
#define NEAP_TOOLS_SANDBOX_ROOT_H

#include "tools/sandbox.h"

/* Builds it on how->root and makes it "/"; the old one is gone afterwards. */
int sandbox_root(const struct sandbox_how *how, struct err *e);

#endif
