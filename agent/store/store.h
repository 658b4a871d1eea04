/*
 * A repository opened: driver, keys, parameters of neap.json, and on demand its
 * index and the way to read chunks. What jobs and tools hold.
 */
#ifndef NEAP_STORE_STORE_H
#define NEAP_STORE_STORE_H

#include "agent/store/catalog.h"
#include "agent/store/index.h"
#include "agent/store/ingest.h"
#include "agent/store/keys.h"
#include "agent/store/pack.h"
#include "agent/store/repo.h"

struct store {
	struct repo *repo;
	struct keys keys;
	char id_hex[33];
	struct index *index;       /* after store_index */
	struct pack_reader *packs; /* after store_reading */
};

struct store_how {
	const char *url;
	const char *key_path;   /* host or recovery key; NULL: none */
	const char *passphrase; /* opens a slot instead, or NULL */
};

/*
 * Make a repository and its key files. `encrypted` false: no key files. The
 * folder may exist if it is empty; -EEXIST when a repository is there.
 * Key files that exist are never overwritten (-EEXIST before anything is made).
 */
int store_init(const char *url, bool encrypted, const char *host_key_path,
    const char *recovery_key_path, const char *passphrase, struct err *e);

/* -ENOENT no repository there; -EKEYREJECTED wrong, missing or foreign key. */
int store_open(struct store *s, const struct store_how *how, struct err *e);
void store_close(struct store *s); /* {0} is fine */
#define SCOPED_STORE __attribute__((cleanup(store_close)))

int store_index(struct store *s, struct err *e);   /* opens once */
int store_reading(struct store *s, struct err *e); /* index and packs; needs
						      the private key */
/* Plain bytes of a chunk (CHUNK_BYTES at `to`); thread-safe. */
int store_chunk(struct store *s, const struct chunk_id *id, uint8_t *to,
    unsigned *blocks, struct err *e);

#endif
