/*
 * SHA-256 of each 4096-byte block of a chunk, from which its id is made
 * (chunk.h). The blocks know nothing of each other, so the hardware may hash
 * several at once; which implementation does it changes nothing but the time.
 *
 * One thread at a time; several instances are independent of each other.
 */
#ifndef NEAP_STORE_LEAVES_H
#define NEAP_STORE_LEAVES_H

#include <stdint.h>

#include "agent/core/err.h"

#define LEAF_BYTES 32u

struct leaves {
	const struct leaves_ops *ops; /* first member of each implementation */
};

struct leaves_ops {
	const char *name;

	/* -EOPNOTSUPP: not on this machine. */
	int (*open)(struct leaves **out, struct err *e);
	int (*of)(struct leaves *l, const uint8_t *data, unsigned blocks,
	    uint8_t out[][LEAF_BYTES], struct err *e);
	void (*close)(struct leaves *l);
};

/* OpenSSL, one block after the other: complete, slow, the oracle. */
extern const struct leaves_ops leaves_evp;
#ifdef NEAP_IPSEC_MB
/* libipsec-mb: up to 16 blocks at once, on x86-64. */
extern const struct leaves_ops leaves_mb;
#endif

/* The fastest that is right here; leaves_evp at the least. Gives. */
int leaves_new(struct leaves **out, struct err *e);
void leaves_free(struct leaves *l); /* NULL is fine */
/* `data` has 1 to 32 whole blocks, `out` as many leaves. */
int leaves_of(struct leaves *l, const uint8_t *data, unsigned blocks,
    uint8_t out[][LEAF_BYTES], struct err *e);

/*
 * What leaves_new does with `fast`: an instance of it if it opens and its
 * first answers are those of leaves_evp, else one of leaves_evp.
 */
int leaves_pick(
    struct leaves **out, const struct leaves_ops *fast, struct err *e);

#endif
