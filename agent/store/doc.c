/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/doc.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/codec.h"
#include "agent/store/seal.h"

#define HEADER_LEN 64
#define FLAG_ENCRYPTED 1
#define LEVEL 9 /* a document is small and lives as long as its backup */

static const char magic[8] = "neapDOC1";

static uint8_t
kind_number(const char *kind)
{
	if (strcmp(kind, "record") == 0)
		return 1;
	assert(strcmp(kind, "proof") == 0);
	return 2;
}

/* Header, then the frame, into `out`. */
static int
encode(const struct keys *k, const char *kind, const char *name,
    struct span text, struct codec *c, struct buf *out, struct err *e)
{
	SCOPED_FREE uint8_t *packed = mem_new(codec_bound(text.len));
	uint8_t *h = buf_room(out, HEADER_LEN);
	struct seal *s = NULL;
	enum codec_id id;
	size_t len;
	int rc;

	rc = codec_pack(c, text, packed, &len, &id, e);
	if (rc < 0)
		return rc;
	memset(h, 0, HEADER_LEN);
	memcpy(h, magic, sizeof magic);
	bytes_put_le16(h + 8, 1);
	h[10] = kind_number(kind);
	h[11] = k->encrypted ? FLAG_ENCRYPTED : 0;
	bytes_put_le32(h + 12, (uint32_t)text.len);
	rc = clock_random(h + 16, SEAL_FILE_ID_LEN, e);
	h[32] = (uint8_t)id;
	if (rc == 0)
		rc = seal_new_meta(&s, k, kind, h + 16, e);
	out->len += HEADER_LEN;
	if (rc == 0)
		rc = seal_frame(s, 0, span_str(name), SPAN(packed, len),
		    buf_room(out, len + SEAL_TAG_LEN), e);
	if (rc == 0)
		out->len += len + SEAL_TAG_LEN;
	seal_free(s);
	return rc;
}

int
doc_put(struct repo *r, const struct keys *k, const char *kind,
    const char *name, const json_t *doc, struct err *e)
{
	SCOPED_FREE char *text = jdoc_line(doc);
	SCOPED_BUF struct buf out = {0};
	struct codec *c = NULL;
	size_t len = strlen(text);
	int rc;

	if (len > DOC_MAX_BYTES - HEADER_LEN - SEAL_TAG_LEN)
		return err_set(
		    e, -EFBIG, "%s %s: %zu bytes of JSON", kind, name, len);
	rc = codec_new(&c, LEVEL, e);
	if (rc == 0)
		rc = encode(k, kind, name, SPAN(text, len), c, &out, e);
	codec_free(c);
	if (rc < 0)
		return err_wrap(e, "write %s %s", kind, name);
	return repo_put_whole(r, name, buf_span(&out), e);
}

static int
check_header(const uint8_t *h, size_t len, const struct keys *k,
    const char *kind, struct err *e)
{
	if (len < HEADER_LEN + SEAL_TAG_LEN)
		return err_set(e, -EBADMSG, "%zu bytes are too few", len);
	if (memcmp(h, magic, sizeof magic) != 0)
		return err_set(e, -EBADMSG, "not a neap document");
	if (bytes_le16(h + 8) != 1)
		return err_set(e, -EOPNOTSUPP,
		    "document version %u, this neap knows 1",
		    bytes_le16(h + 8));
	if (h[10] != kind_number(kind))
		return err_set(
		    e, -EBADMSG, "kind %u is not a %s's", h[10], kind);
	if (h[11] != (k->encrypted ? FLAG_ENCRYPTED : 0))
		return err_set(e, -EBADMSG,
		    "it is %sencrypted and the repository is not so",
		    h[11] & FLAG_ENCRYPTED ? "" : "not ");
	if (bytes_le32(h + 12) < 2 || bytes_le32(h + 12) > DOC_MAX_BYTES)
		return err_set(e, -EBADMSG, "it cannot have %u bytes of JSON",
		    bytes_le32(h + 12));
	return 0;
}

/* The frame of a checked file, opened in place, unpacked to `text`. */
static int
open_frame(struct buf *file, const struct keys *k, const char *kind,
    const char *name, struct buf *text, struct err *e)
{
	uint8_t *frame = file->data + HEADER_LEN;
	size_t sealed = file->len - HEADER_LEN;
	size_t len = bytes_le32(file->data + 12);
	struct codec *c = NULL;
	struct seal *s = NULL;
	int rc;

	rc = seal_new_meta(&s, k, kind, file->data + 16, e);
	if (rc == 0)
		rc = seal_open_frame(
		    s, 0, span_str(name), SPAN(frame, sealed), frame, e);
	if (rc == 0)
		rc = codec_new(&c, LEVEL, e);
	if (rc == 0)
		rc = codec_unpack(c, (enum codec_id)file->data[32],
		    SPAN(frame, sealed - SEAL_TAG_LEN), buf_room(text, len),
		    len, e);
	if (rc == 0)
		text->len = len;
	codec_free(c);
	seal_free(s);
	return rc;
}

int
doc_get(struct repo *r, const struct keys *k, const char *kind,
    const char *name, json_t **out, struct err *e)
{
	SCOPED_BUF struct buf file = {0}, text = {0};
	int rc = repo_get_whole(r, name, DOC_MAX_BYTES, &file, e);
	json_t *j = NULL;

	if (rc < 0)
		return rc;
	rc = check_header(file.data, file.len, k, kind, e);
	if (rc == 0)
		rc = open_frame(&file, k, kind, name, &text, e);
	if (rc == 0) {
		j = jdoc_parse(buf_span(&text), e);
		rc = j ? 0 : e->code;
	}
	if (rc < 0)
		return err_wrap(e, "repository %s: %s", r->url, name);
	*out = j;
	return 0;
}
