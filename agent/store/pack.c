/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/pack.h"

#include <errno.h>
#include <stdio.h>

#include "agent/core/mem.h"
#include "agent/store/pack_format.h"

void
pack_name(char out[64], const uint8_t pack_id[16])
{
	char hex[33];

	bytes_hex(hex, pack_id, 16);
	snprintf(out, 64, "packs/%.2s/%s", hex, hex);
}

/* Header and trailer; together with the length they say where things lie. */
static int
read_ends(struct repo *r, const struct keys *k, const char *name,
    const uint8_t pack_id[16], struct pack_format_tail *tail, struct err *e)
{
	uint8_t head[PACK_FORMAT_HEADER_LEN], end[PACK_FORMAT_TRAILER_LEN];
	uint64_t len;
	int rc = repo_size(r, name, &len, e);

	if (rc < 0)
		return rc;
	if (len < sizeof head + sizeof end || len > PACK_MAX_BYTES)
		rc = err_set(e, -EBADMSG, "no pack has %llu bytes",
		    (unsigned long long)len);
	if (rc < 0)
		return err_wrap(e, "repository %s: %s", r->url, name);
	rc = repo_get(r, name, 0, head, sizeof head, e);
	if (rc == 0)
		rc = repo_get(r, name, len - sizeof end, end, sizeof end, e);
	if (rc < 0)
		return rc;
	rc = pack_format_check_header(head, k->encrypted, pack_id, e);
	if (rc == 0)
		rc = pack_format_read_trailer(end, len, tail, e);
	return rc < 0 ? err_wrap(e, "repository %s: %s", r->url, name) : 0;
}

/* The directory's frame, opened in place and checked. */
static int
open_directory(const struct keys *k, const uint8_t pack_id[16],
    const struct pack_format_tail *t, uint8_t *sealed, struct pack_entry *v,
    struct err *e)
{
	struct seal *s;
	int rc = seal_new_meta(&s, k, "pack-directory", pack_id, e);

	if (rc < 0)
		return rc;
	rc = seal_open_frame(
	    s, t->dir_off, SPAN(NULL, 0), SPAN(sealed, t->dir_len), sealed, e);
	seal_free(s);
	if (rc < 0)
		return err_wrap(e, "directory");
	return pack_format_read_directory(
	    SPAN(sealed, t->dir_len - SEAL_TAG_LEN), t, v, e);
}

int
pack_directory(struct repo *r, const struct keys *k, const uint8_t pack_id[16],
    struct pack_entry **entries, size_t *n, struct err *e)
{
	SCOPED_FREE struct pack_entry *v = NULL;
	SCOPED_FREE uint8_t *sealed = NULL;
	struct pack_format_tail t;
	char name[64];
	int rc;

	pack_name(name, pack_id);
	rc = read_ends(r, k, name, pack_id, &t, e);
	if (rc < 0)
		return rc;
	sealed = mem_new(t.dir_len);
	v = mem_array(t.count, sizeof *v);
	rc = repo_get(r, name, t.dir_off, sealed, t.dir_len, e);
	if (rc < 0)
		return rc;
	rc = open_directory(k, pack_id, &t, sealed, v, e);
	if (rc < 0)
		return err_wrap(e, "repository %s: %s", r->url, name);
	*entries = TAKE(v);
	*n = t.count;
	return 0;
}
