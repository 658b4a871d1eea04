/* The verbs of the PostgreSQL hook; each lives in the file of its prefix. */
#ifndef NEAP_HOOKS_POSTGRESQL_VERBS_H
#define NEAP_HOOKS_POSTGRESQL_VERBS_H

#include "agent/hooks/serve.h"

serve_verb probe_server, hold_quiesce, validate_clone, dump_clone;

#endif
