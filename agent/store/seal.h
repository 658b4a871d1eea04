/*
 * Sealing: what stands between plain bytes and bytes at rest.
 *
 * A sealed frame is its payload (AES-256-GCM ciphertext, or the plain bytes in
 * a repository without encryption) and 16 bytes behind it (the GCM tag, or
 * XXH3-128). Both bind the frame to its file and its place there, so a frame
 * moved, swapped or torn does not open: -EBADMSG.
 *
 * A sealer belongs to one file and one thread at a time.
 */
#ifndef NEAP_STORE_SEAL_H
#define NEAP_STORE_SEAL_H

#include "agent/store/keys.h"

#define SEAL_TAG_LEN 16
#define SEAL_FILE_ID_LEN 16
#define SEAL_PACK_PUBLIC_LEN 32

struct seal; /* one file's key */

/* Metadata files (and pack directories): key from the metadata key, the file's
 * id and `kind` ("index", "map", "record", "proof", "pack-directory"). */
int seal_new_meta(struct seal **out, const struct keys *k, const char *kind,
    const uint8_t file_id[SEAL_FILE_ID_LEN], struct err *e);

/* A new pack: makes an ephemeral key pair; *pub goes into the pack's header. */
int seal_new_pack(struct seal **out, const struct keys *k,
    const uint8_t pack_id[SEAL_FILE_ID_LEN], uint8_t pub[SEAL_PACK_PUBLIC_LEN],
    struct err *e);

/* An existing pack; -EKEYREJECTED without the private key. */
int seal_open_pack(struct seal **out, const struct keys *k,
    const uint8_t pack_id[SEAL_FILE_ID_LEN],
    const uint8_t pub[SEAL_PACK_PUBLIC_LEN], struct err *e);

void seal_free(struct seal *s);                /* NULL is fine */
struct seal *seal_clone(const struct seal *s); /* for another thread */

/*
 * Frame `number` of the file (each number sealed once), with `extra` bound to
 * it (may be empty). `to` takes plain.len + SEAL_TAG_LEN bytes and may be
 * plain.data itself.
 */
int seal_frame(struct seal *s, uint64_t number, struct span extra,
    struct span plain, uint8_t *to, struct err *e);
/* `to` takes sealed.len - SEAL_TAG_LEN bytes and may be sealed.data itself. */
int seal_open_frame(struct seal *s, uint64_t number, struct span extra,
    struct span sealed, uint8_t *to, struct err *e);

#endif
