/* SPDX-License-Identifier: Apache-2.0 */
/* Intel's multi-buffer library. Its header defines names that OpenSSL's have
 * too, so no other file includes it. */
#ifdef NEAP_IPSEC_MB
#include <errno.h>
#include <intel-ipsec-mb.h>

#include "agent/core/mem.h"
#include "agent/store/chunk.h"
#include "agent/store/leaves.h"

/* A round of the lanes takes about as long with one block in it as with 16 (13
 * to 15 us with AVX-512), and OpenSSL takes 2.5 us for a block: so many at the
 * end are its. */
#define LANES 16u
#define FEW 5u

struct mb {
	struct leaves base;
	struct leaves *few;
	IMB_MGR *m; /* NULL once it has failed */
};

static void
mb_close(struct leaves *l)
{
	struct mb *v = (struct mb *)l;

	if (v->m != NULL)
		free_mb_mgr(v->m);
	leaves_free(v->few);
	free(v);
}

static int
mb_open(struct leaves **out, struct err *e)
{
	struct mb *v = mem_new(sizeof *v);
	int rc = leaves_evp.open(&v->few, e);

	v->base.ops = &leaves_mb;
	v->m = rc < 0 ? NULL : alloc_mb_mgr(0);
	if (v->m != NULL)
		init_mb_mgr_auto(v->m, NULL); /* tests itself */
	if (rc == 0 && (v->m == NULL || imb_get_errno(v->m) != 0))
		rc = err_set(e, -EOPNOTSUPP, "libipsec-mb: %s",
		    v->m ? imb_get_strerror(imb_get_errno(v->m))
			 : "no manager");
	if (rc < 0) {
		mb_close(&v->base);
		return rc;
	}
	*out = &v->base;
	return 0;
}

/* The jobs that are still in it would write to where `out` was: away with the
 * whole manager. */
static int
failed(struct mb *v, struct err *e)
{
	int why = imb_get_errno(v->m);

	err_set(e, -EIO, "SHA-256: libipsec-mb: %s",
	    why ? imb_get_strerror(why) : "a job was not completed");
	free_mb_mgr(v->m);
	v->m = NULL;
	return e->code;
}

static IMB_JOB *
submit(IMB_MGR *m, const uint8_t *block, uint8_t *leaf)
{
	IMB_JOB *job = IMB_GET_NEXT_JOB(m);

	*job = (IMB_JOB){
	    .cipher_mode = IMB_CIPHER_NULL,
	    .cipher_direction = IMB_DIR_ENCRYPT,
	    .chain_order = IMB_ORDER_HASH_CIPHER,
	    .hash_alg = IMB_AUTH_SHA_256,
	    .src = block,
	    .msg_len_to_hash_in_bytes = CHUNK_BLOCK_BYTES,
	    .auth_tag_output = leaf,
	    .auth_tag_output_len_in_bytes = LEAF_BYTES,
	};
	return IMB_SUBMIT_JOB(m);
}

/* Jobs are handed back in the order in which they went in. */
static int
side_by_side(struct mb *v, const uint8_t *data, unsigned blocks,
    uint8_t out[][LEAF_BYTES], struct err *e)
{
	unsigned in = 0, done = 0;
	IMB_JOB *job;

	if (v->m == NULL)
		return err_set(e, -EIO, "SHA-256: libipsec-mb failed before");
	while (done < blocks) {
		if (in < blocks) {
			job = submit(v->m,
			    data + (size_t)in * CHUNK_BLOCK_BYTES, out[in]);
			in++;
		} else {
			job = IMB_FLUSH_JOB(v->m);
			if (job == NULL)
				return failed(v, e);
		}
		for (; job != NULL; job = IMB_GET_COMPLETED_JOB(v->m)) {
			if (job->status != IMB_STATUS_COMPLETED || done >= in ||
			    job->auth_tag_output != out[done])
				return failed(v, e);
			done++;
		}
	}
	return 0;
}

static int
mb_of(struct leaves *l, const uint8_t *data, unsigned blocks,
    uint8_t out[][LEAF_BYTES], struct err *e)
{
	struct mb *v = (struct mb *)l;
	unsigned few = blocks % LANES, many;

	if (few > FEW)
		few = 0;
	many = blocks - few;
	if (many > 0 && side_by_side(v, data, many, out, e) < 0)
		return e->code;
	if (few > 0)
		return leaves_of(v->few,
		    data + (size_t)many * CHUNK_BLOCK_BYTES, few, out + many,
		    e);
	return 0;
}

const struct leaves_ops leaves_mb = {
    .name = "libipsec-mb",
    .open = mb_open,
    .of = mb_of,
    .close = mb_close,
};
#else
typedef int leaves_mb_none; /* ISO C forbids an empty file */
#endif
