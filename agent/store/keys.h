/*
 * Who may do what: the key material of a repository.
 *
 *   host key      public key, id key, metadata key: add backups, list, compare
 *   recovery key  the same and the private key: read data back
 *
 * Key files are JSON with mode 0600; format.md has their members. The same
 * secrets may also lie in neap.json in a slot under a scrypt passphrase.
 * A repository without encryption has encrypted == false and no secrets.
 */
#ifndef NEAP_STORE_KEYS_H
#define NEAP_STORE_KEYS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

#define KEYS_ID_LEN 16 /* repository id */

struct keys {
	bool encrypted;
	bool has_private;
	uint8_t repo_id[KEYS_ID_LEN];
	uint8_t public_key[32];  /* X25519 */
	uint8_t private_key[32]; /* zeros without has_private */
	uint8_t id_key[32];      /* HMAC-SHA256 of chunk ids */
	uint8_t meta_key[32];    /* maps, index, records, pack directories */
};

void keys_wipe(struct keys *k);
#define SCOPED_KEYS __attribute__((cleanup(keys_wipe)))

int keys_generate(struct keys *k, bool encrypted, struct err *e);
/* `recovery`: with the private key. -EEXIST: never replaces a key file. */
int keys_save(
    const struct keys *k, const char *path, bool recovery, struct err *e);
/* -EKEYREJECTED: not there, not ours to read, no key file, or too open (mode
 * not 0600). */
int keys_load(struct keys *k, const char *path, struct err *e);

/* A key slot of neap.json: the secrets under scrypt (N 2^17, r 8, p 1). */
json_t *keys_wrap(const struct keys *k, const char *passphrase, struct err *e);
/* k->repo_id says whose slot it is; the rest of *k is written on success.
 * -EKEYREJECTED: the passphrase does not open this slot. */
int keys_unwrap(
    struct keys *k, const json_t *slot, const char *passphrase, struct err *e);

/* 16 bytes in neap.json that tell a wrong key at once. */
int keys_check_value(const struct keys *k, uint8_t out[16], struct err *e);

#endif
