/* SPDX-License-Identifier: Apache-2.0 */
/* The hook for PostgreSQL 13 to 17. */
#include "agent/hooks/postgresql/verbs.h"

int
main(int argc, char **argv)
{
	static const struct serve_ops ops = {.engine = "postgresql",
	    .probe = probe_server,
	    .quiesce = hold_quiesce,
	    .validate = validate_clone,
	    .dump = dump_clone};

	return serve_main(argc, argv, &ops);
}
