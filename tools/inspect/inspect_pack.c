/* SPDX-License-Identifier: Apache-2.0 */
/* A pack: header, trailer, directory, and with the private key its chunks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/codec.h"
#include "agent/store/pack_format.h"
#include "tools/inspect/inspect.h"

static int
outside(struct inspect *in, struct pack_format_tail *t, struct err *e)
{
	uint8_t end[PACK_FORMAT_TRAILER_LEN];
	const uint8_t *h = in->head;
	int rc;

	inspect_say_int(in, "version", bytes_le16(h + 8));
	inspect_say_int(in, "flags", bytes_le16(h + 10));
	inspect_say_hex(in, "id", h + 16, 16);
	if (bytes_le16(h + 10) & 1)
		inspect_say_hex(in, "ephemeral_key", pack_format_public(h), 32);
	if (in->len < PACK_FORMAT_HEADER_LEN + PACK_FORMAT_TRAILER_LEN)
		return err_set(e, -EBADMSG,
		    "offset %llu: it ends before a trailer can be",
		    (unsigned long long)in->len);
	rc = pack_format_check_header(
	    h, (bytes_le16(h + 10) & 1) != 0, h + 16, e);
	if (rc == 0)
		rc = inspect_check_name(in, h + 16, e);
	if (rc == 0)
		rc = repo_get(in->repo, "packs", in->len - sizeof end, end,
		    sizeof end, e);
	if (rc == 0)
		rc = pack_format_read_trailer(end, in->len, t, e);
	if (rc < 0)
		return rc;
	inspect_say_int(in, "directory_offset", t->dir_off);
	inspect_say_int(in, "directory_bytes", t->dir_len);
	inspect_say_int(in, "chunks", t->count);
	return 0;
}

static void
list_entries(struct inspect *in, const struct pack_entry *v, size_t n)
{
	uint64_t plain = 0, stored = 0;

	for (size_t i = 0; i < n; i++) {
		plain += v[i].blocks * (uint64_t)CHUNK_BLOCK_BYTES;
		stored += v[i].len;
		if (in->list) {
			json_t *row = json_object();

			inspect_put_hex(row, "chunk", v[i].id.b, 32);
			json_object_set_new(
			    row, "offset", json_integer(v[i].off));
			json_object_set_new(
			    row, "bytes", json_integer(v[i].len));
			json_object_set_new(
			    row, "blocks", json_integer(v[i].blocks));
			json_object_set_new(row, "codec",
			    json_string(
				v[i].codec == CODEC_RAW ? "raw" : "zstd"));
			inspect_row(in, row);
		}
	}
	inspect_say_int(in, "plain_bytes", plain);
	inspect_say_int(in, "sealed_bytes", stored);
}

/* Every chunk is opened and its digest compared; all bad ones are listed. */
static int
check_chunks(struct inspect *in, const struct keys *k,
    const struct pack_entry *v, size_t n, struct err *e)
{
	SCOPED_FREE uint8_t *plain = mem_new(CHUNK_BYTES);
	struct pack_reader *p;
	struct err first = ERR_NONE;
	size_t bad = 0;
	int rc = pack_reader_new(&p, in->repo, k, e);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct chunk_place at = {.off = v[i].off,
		    .len = v[i].len,
		    .blocks = v[i].blocks,
		    .codec = v[i].codec};

		memcpy(at.pack, in->head + 16, sizeof at.pack);
		rc = pack_reader_get(p, &v[i].id, &at, plain, e);
		if (rc == -EBADMSG) {
			if (bad++ == 0)
				err_copy(&first, e);
			rc = 0;
		}
	}
	if (rc < 0)
		return rc;
	pack_reader_free(p);
	inspect_say_int(in, "chunks_opened", n);
	inspect_say_int(in, "chunks_damaged", bad);
	return bad > 0 ? err_copy(e, &first) : 0;
}

int
inspect_pack(struct inspect *in, struct err *e)
{
	SCOPED_FREE struct pack_entry *v = NULL;
	SCOPED_KEYS struct keys k = {0};
	struct pack_format_tail t;
	size_t n = 0;
	int rc = outside(in, &t, e);

	if (rc == 0)
		rc = inspect_keys(
		    in, (bytes_le16(in->head + 10) & 1) != 0, &k, e);
	if (rc == 0)
		rc = pack_directory(in->repo, &k, in->head + 16, &v, &n, e);
	if (rc < 0)
		return rc;
	list_entries(in, v, n);
	if (k.encrypted && !k.has_private) {
		inspect_say_str(
		    in, "chunks_opened", "none: that takes the recovery key");
		return 0;
	}
	return check_chunks(in, &k, v, n, e);
}
