/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/send_stream.h"

#include <errno.h>
#include <string.h>

#include "kmod-free/track/crc32c.h"

#define MAGIC "btrfs-stream" /* with its NUL */
#define HEADER_LEN (sizeof MAGIC + 4)
#define COMMAND_LEN 10u /* u32 length, u16 command, u32 crc */
#define CRC_OFF 6u

static int
bad(const struct send_stream *s, size_t off, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "send stream at byte %llu: %s",
	    (unsigned long long)(s->at + off), what);
}

static int
parse_header(struct send_stream *s, const uint8_t *p, struct err *e)
{
	uint32_t version = bytes_le32(p + sizeof MAGIC);

	if (memcmp(p, MAGIC, sizeof MAGIC) != 0)
		return bad(s, 0, "it does not begin as a stream does", e);
	if (version == 0 || version > SEND_VERSION_MAX)
		return err_set(e, -EBADMSG,
		    "send stream of version %u, and we know 1 to %u", version,
		    SEND_VERSION_MAX);
	s->version = version;
	return 0;
}

/* Since version 2 DATA comes last and has no length: it is the rest. */
static int
parse_attrs(const struct send_stream *s, size_t off, struct span body,
    struct send_command *c, struct err *e)
{
	struct cursor cur = cursor_of(body);

	while (cursor_left(&cur) > 0) {
		uint16_t type = cursor_le16(&cur);
		size_t n;

		if (type == SEND_A_DATA && s->version >= 2)
			n = cursor_left(&cur);
		else
			n = cursor_le16(&cur);
		if (cur.bad || n > cursor_left(&cur))
			return bad(s, off,
			    "an attribute is longer than its "
			    "command",
			    e);
		if (type == 0 || type > SEND_A_MAX)
			return bad(s, off, "an attribute is not known", e);
		if (c->attr[type].data != NULL)
			return bad(s, off, "an attribute comes twice", e);
		c->attr[type] = SPAN(cur.at, n);
		cursor_bytes(&cur, n);
	}
	return 0;
}

/* One command at `off` of what is pending: 1, *used is its length; 0: not
 * whole yet. */
static int
parse_command(struct send_stream *s, size_t off, size_t *used,
    struct send_command *c, struct err *e)
{
	static const uint8_t no_crc[4];
	const uint8_t *p = s->pending.data + off;
	size_t left = s->pending.len - off;
	uint32_t len, crc;
	int rc;

	if (left < COMMAND_LEN)
		return 0;
	if (s->ended)
		return bad(s, off, "there is more behind its end", e);
	len = bytes_le32(p);
	if (len > SEND_COMMAND_MAX)
		return bad(s, off, "a command is longer than any can be", e);
	if (left - COMMAND_LEN < len)
		return 0;
	crc = crc32c(0, p, CRC_OFF);
	crc = crc32c(crc, no_crc, sizeof no_crc);
	crc = crc32c(crc, p + COMMAND_LEN, len);
	if (crc != bytes_le32(p + CRC_OFF))
		return bad(s, off, "the checksum of a command is wrong", e);
	memset(c, 0, sizeof *c);
	c->op = bytes_le16(p + 4);
	c->at = s->at + off;
	rc = parse_attrs(s, off, SPAN(p + COMMAND_LEN, len), c, e);
	if (rc < 0)
		return rc;
	s->ended = c->op == SEND_END;
	*used = COMMAND_LEN + len;
	return 1;
}

/* Everything that is whole; *used counts what was. */
static int
parse_pending(struct send_stream *s, size_t *used, send_stream_fn *fn,
    void *arg, struct err *e)
{
	struct send_command c;
	size_t n = 0;
	int rc;

	*used = 0;
	if (s->version == 0) {
		if (s->pending.len < HEADER_LEN)
			return 0;
		rc = parse_header(s, s->pending.data, e);
		if (rc < 0)
			return rc;
		*used = HEADER_LEN;
	}
	for (;;) {
		rc = parse_command(s, *used, &n, &c, e);
		if (rc <= 0)
			return rc;
		rc = fn(arg, &c, e);
		if (rc < 0)
			return rc;
		*used += n;
	}
}

int
send_stream_feed(struct send_stream *s, const void *data, size_t n,
    send_stream_fn *fn, void *arg, struct err *e)
{
	size_t used;
	int rc;

	if (n == 0)
		return 0;
	buf_put(&s->pending, data, n);
	rc = parse_pending(s, &used, fn, arg, e);
	if (rc < 0)
		return rc;
	/* What stays is less than one command. */
	s->pending.len -= used;
	s->at += used;
	memmove(s->pending.data, s->pending.data + used, s->pending.len);
	return 0;
}

int
send_stream_finish(const struct send_stream *s, struct err *e)
{
	if (!s->ended)
		return bad(s, s->pending.len, "it stops before its end", e);
	if (s->pending.len > 0)
		return bad(s, 0, "there is more behind its end", e);
	return 0;
}

void
send_stream_fini(struct send_stream *s)
{
	buf_free(&s->pending);
	*s = (struct send_stream){0};
}

int
send_stream_attr(const struct send_command *c, unsigned attr, struct span *out,
    struct err *e)
{
	if (c->attr[attr].data == NULL)
		return err_set(e, -EBADMSG,
		    "send stream at byte %llu: command %u lacks attribute %u",
		    (unsigned long long)c->at, c->op, attr);
	*out = c->attr[attr];
	return 0;
}

int
send_stream_u64(
    const struct send_command *c, unsigned attr, uint64_t *out, struct err *e)
{
	struct span s = {0};
	int rc = send_stream_attr(c, attr, &s, e);

	if (rc < 0)
		return rc;
	if (s.len != 8)
		return err_set(e, -EBADMSG,
		    "send stream at byte %llu: attribute %u of command %u is "
		    "%zu bytes, not 8",
		    (unsigned long long)c->at, attr, c->op, s.len);
	*out = bytes_le64(s.data);
	return 0;
}
