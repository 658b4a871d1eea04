/*
 * neap.json: what a repository is. Written once, last of all that `neap init`
 * makes; read before anything else. Internal to agent/store.
 */
#ifndef NEAP_STORE_NEAP_JSON_H
#define NEAP_STORE_NEAP_JSON_H

#include <jansson.h>

#include "agent/store/keys.h"
#include "agent/store/repo.h"

#define NEAP_JSON_NAME "neap.json"

/* For a new repository; `passphrase` (or NULL) gets a key slot. Durable. */
int neap_json_put(struct repo *r, const struct keys *k, const char *passphrase,
    struct err *e);

/* Gives. -ENOENT: there is no repository here; -EBADMSG: not JSON. */
int neap_json_read(struct repo *r, json_t **out, struct err *e);
/* Checks all and fills in what is public of the keys: encrypted, repo_id,
 * public_key. -EOPNOTSUPP: a format that this neap does not know. */
int neap_json_parse(const json_t *o, struct keys *k, struct err *e);
/* A member of 2 * n hex digits. */
int neap_json_hex(
    const json_t *o, const char *name, void *out, size_t n, struct err *e);

#endif
