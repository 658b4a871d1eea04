/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount.h"
#include "tools/tool.h"

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	static const struct option none[] = {{NULL, 0, NULL, 0}};
	int rc;

	(void)t;
	if (tool_getopt(argc, argv, ":", none, e) != -1)
		return e->code;
	rc = tool_args(argc, argv, 1, &tool_unmount, e);
	return rc < 0 ? rc : mount_undo(argv[optind], e);
}

const struct tool_command tool_unmount = {
    .name = "unmount",
    .usage = "unmount DIR",
    .summary = "End a mount, and wait until its server is gone",
    .help = "",
    .run = run,
};
