/* SPDX-License-Identifier: Apache-2.0 */
/* The hook for SQLite 3. */
#include "agent/hooks/sqlite/verbs.h"

int
main(int argc, char **argv)
{
	static const struct serve_ops ops = {.engine = "sqlite",
	    .probe = probe_file,
	    .quiesce = hold_quiesce,
	    .validate = validate_clone,
	    .dump = dump_clone};

	return serve_main(argc, argv, &ops);
}
