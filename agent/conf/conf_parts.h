/*
 * What the files of a configuration's parts share. Not for other folders.
 */
#ifndef NEAP_CONF_CONF_PARTS_H
#define NEAP_CONF_CONF_PARTS_H

#include "agent/conf/conf.h"
#include "agent/conf/conf_key.h"

/* The value of `jobs` into c->job; what it made is c's also on failure. */
int conf_job_parse_all(
    const struct conf_node *n, struct conf *c, struct err *e);
void conf_job_free_all(struct conf *c);

/* The value of a job's `connection`; gives. */
int conf_connection_parse(
    const struct conf_node *n, const char *engine, json_t **out, struct err *e);

#endif
