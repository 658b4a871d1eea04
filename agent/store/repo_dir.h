/* The folder driver; docs/format.md says what lies in it. */
#ifndef NEAP_STORE_REPO_DIR_H
#define NEAP_STORE_REPO_DIR_H

#include "agent/store/repo.h"

extern const struct repo_ops repo_dir_ops;

#endif
