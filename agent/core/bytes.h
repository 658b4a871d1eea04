/*
 * Byte strings: a view (span), a growing buffer (buf), a checked reader
 * (cursor), and fixed-width integers in little or big endian. Everything that
 * goes to or comes from disk passes through here, so that no struct layout,
 * alignment or byte order is ever a question.
 */
#ifndef NEAP_CORE_BYTES_H
#define NEAP_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A borrowed view. */
struct span {
	const void *data;
	size_t len;
};

#define SPAN(d, n) ((struct span){(d), (n)})
struct span span_str(const char *s);
int span_cmp(struct span a, struct span b); /* memcmp order, shorter first */

/* A growing buffer that owns its bytes. {0} is empty. */
struct buf {
	uint8_t *data;
	size_t len, cap;
};

void buf_free(struct buf *b);               /* free contents, back to {0} */
void buf_clear(struct buf *b);              /* keep the memory, len = 0 */
uint8_t *buf_room(struct buf *b, size_t n); /* n more bytes at data + len */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_le16(struct buf *b, uint16_t v);
void buf_put_le32(struct buf *b, uint32_t v);
void buf_put_le64(struct buf *b, uint64_t v);
void buf_put_be64(struct buf *b, uint64_t v);
void buf_put_varint(struct buf *b, uint64_t v); /* LEB128, 1 to 10 bytes */
/* varint length, then the bytes */
void buf_put_string(struct buf *b, const void *p, size_t n);
static inline struct span
buf_span(const struct buf *b)
{
	return SPAN(b->data, b->len);
}
#define SCOPED_BUF __attribute__((cleanup(buf_free)))

/*
 * A reader over bytes that we did not just write. Past the end it returns
 * zeros and `bad` stays set: check it once, at the end of a record.
 */
struct cursor {
	const uint8_t *at, *end;
	bool bad;
};

struct cursor cursor_of(struct span s);
size_t cursor_left(const struct cursor *c);
const uint8_t *cursor_bytes(struct cursor *c, size_t n); /* NULL when bad */
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);
uint64_t cursor_be64(struct cursor *c);
uint64_t cursor_varint(struct cursor *c);
struct span cursor_string(struct cursor *c); /* varint length, bytes */

uint16_t bytes_le16(const void *p);
uint32_t bytes_le32(const void *p);
uint64_t bytes_le64(const void *p);
uint64_t bytes_be64(const void *p);
void bytes_put_le16(void *p, uint16_t v);
void bytes_put_le32(void *p, uint32_t v);
void bytes_put_le64(void *p, uint64_t v);
void bytes_put_be64(void *p, uint64_t v);

bool bytes_all_zero(const void *p, size_t n);

/* Lower-case hex; `out` takes 2 * n + 1 bytes. */
void bytes_hex(char *out, const void *p, size_t n);
/* 0, or -1 where `s` is not exactly 2 * n hex digits. */
int bytes_unhex(void *out, size_t n, const char *s);

#endif
