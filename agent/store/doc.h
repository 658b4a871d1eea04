/*
 * A sealed JSON document: backup records and proofs. Bound to its own name, so
 * that one cannot be put in another's place. Created once, never replaced.
 */
#ifndef NEAP_STORE_DOC_H
#define NEAP_STORE_DOC_H

#include <jansson.h>

#include "agent/store/keys.h"
#include "agent/store/repo.h"

#define DOC_MAX_BYTES (64u << 20)

/* kind: "record" or "proof". -EEXIST: the name is taken. */
int doc_put(struct repo *r, const struct keys *k, const char *kind,
    const char *name, const json_t *doc, struct err *e);
/* Gives; -ENOENT, -EBADMSG, -EKEYREJECTED. */
int doc_get(struct repo *r, const struct keys *k, const char *kind,
    const char *name, json_t **out, struct err *e);

#endif
