/* The verbs of the SQLite hook; each lives in the file of its prefix. */
#ifndef NEAP_HOOKS_SQLITE_VERBS_H
#define NEAP_HOOKS_SQLITE_VERBS_H

#include "agent/hooks/serve.h"

serve_verb probe_file, hold_quiesce, validate_clone, dump_clone;

#endif
