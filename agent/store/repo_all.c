/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/repo.h"

#include <stddef.h>

#include "agent/store/repo_dir.h"

/* The first is the driver of a URL without a scheme. */
const struct repo_ops *const repo_all[] = {&repo_dir_ops, NULL};
