/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/object.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"

#define OBJECT_VERSION 1
#define TARGET_MAX (PATH_MAX - 1) /* Linux: PATH_MAX counts the NUL */
#define XATTR_NAME_LEN_MAX 255    /* XATTR_NAME_MAX of linux/limits.h */
#define XATTR_VALUE_LEN_MAX 65536 /* XATTR_SIZE_MAX of linux/limits.h */
#define IMAGE_TEXT_LEN_MAX 1024   /* labels of UDF have 126 characters */
#define SECTOR_MIN 512u
#define SECTOR_MAX 65536u

void
object_fini(struct object *o)
{
	for (size_t i = 0; i < o->xattrs; i++) {
		free(o->xattr[i].name);
		free(o->xattr[i].value);
	}
	free(o->xattr);
	free(o->target);
	free(o->fs_type);
	free(o->fs_uuid);
	free(o->fs_label);
	*o = (struct object){0};
}

static void
encode_image(const struct object *o, struct buf *out)
{
	const char *const text[] = {o->fs_type, o->fs_uuid, o->fs_label};

	buf_put_varint(out, o->sector);
	for (size_t i = 0; i < MEM_COUNT(text); i++) {
		size_t n = strlen(text[i]);

		/* What cannot be read back must not be written. */
		buf_put_string(out, text[i],
		    n < IMAGE_TEXT_LEN_MAX ? n : IMAGE_TEXT_LEN_MAX);
	}
}

void
object_encode(const struct object *o, struct buf *out)
{
	assert(o->type >= OBJECT_FILE && o->type <= OBJECT_IMAGE);
	assert(o->mode <= 07777);
	assert((o->type == OBJECT_SYMLINK) == (o->target != NULL));
	buf_put_u8(out, OBJECT_VERSION);
	buf_put_u8(out, (uint8_t)o->type);
	buf_put_varint(out, o->mode);
	buf_put_varint(out, o->uid);
	buf_put_varint(out, o->gid);
	buf_put_varint(out, o->nlink);
	buf_put_varint(out, o->size);
	buf_put_le64(out, (uint64_t)o->mtime_s);
	buf_put_varint(out, o->mtime_ns);
	buf_put_le64(out, (uint64_t)o->atime_s);
	buf_put_varint(out, o->atime_ns);
	buf_put_varint(out, o->rdev_major);
	buf_put_varint(out, o->rdev_minor);
	buf_put_varint(out, o->flags);
	buf_put_string(out, o->target, o->target ? strlen(o->target) : 0);
	buf_put_varint(out, o->xattrs);
	for (size_t i = 0; i < o->xattrs; i++) {
		const struct object_xattr *x = &o->xattr[i];

		assert(i == 0 || strcmp(x[-1].name, x->name) < 0);
		buf_put_string(out, x->name, strlen(x->name));
		buf_put_string(out, x->value, x->value_len);
	}
	if (o->type == OBJECT_IMAGE)
		encode_image(o, out);
}

/* A varint that fits its field; the cursor turns bad where it does not. */
static uint64_t
varint_up_to(struct cursor *c, uint64_t max)
{
	uint64_t v = cursor_varint(c);

	if (v > max)
		c->bad = true;
	return c->bad ? 0 : v;
}

static uint32_t
varint_u32(struct cursor *c)
{
	return (uint32_t)varint_up_to(c, UINT32_MAX);
}

static uint32_t
varint_ns(struct cursor *c)
{
	return (uint32_t)varint_up_to(c, 999999999);
}

static void
decode_numbers(struct object *o, struct cursor *c)
{
	o->mode = (uint32_t)varint_up_to(c, 07777);
	o->uid = varint_u32(c);
	o->gid = varint_u32(c);
	o->nlink = varint_u32(c);
	o->size = varint_up_to(c, INT64_MAX);
	o->mtime_s = (int64_t)cursor_le64(c);
	o->mtime_ns = varint_ns(c);
	o->atime_s = (int64_t)cursor_le64(c);
	o->atime_ns = varint_ns(c);
	o->rdev_major = varint_u32(c);
	o->rdev_minor = varint_u32(c);
	o->flags = varint_u32(c);
}

/* Text of at most `max` bytes without NUL; gives, NULL with the cursor bad. */
static char *
decode_text(struct cursor *c, size_t max)
{
	struct span s = cursor_string(c);

	if (c->bad || s.len == 0 || s.len > max ||
	    memchr(s.data, '\0', s.len) != NULL) {
		c->bad = true;
		return NULL;
	}
	return mem_strn(s.data, s.len);
}

static void
decode_target(struct object *o, struct cursor *c)
{
	if (o->type == OBJECT_SYMLINK)
		o->target = decode_text(c, TARGET_MAX);
	else if (cursor_varint(c) != 0)
		c->bad = true;
}

static void
decode_xattrs(struct object *o, struct cursor *c)
{
	uint64_t n = cursor_varint(c);

	/* Three bytes is the shortest attribute; so this bounds the array. */
	if (c->bad || n > cursor_left(c) / 3) {
		c->bad = true;
		return;
	}
	if (n == 0)
		return;
	o->xattr = mem_array((size_t)n, sizeof *o->xattr);
	while (o->xattrs < n && !c->bad) {
		struct object_xattr *x = &o->xattr[o->xattrs];
		struct span value;

		x->name = decode_text(c, XATTR_NAME_LEN_MAX);
		value = cursor_string(c);
		o->xattrs++; /* counted, so that fini frees the name */
		if (c->bad || value.len > XATTR_VALUE_LEN_MAX ||
		    (o->xattrs > 1 && strcmp(x[-1].name, x->name) >= 0)) {
			c->bad = true;
			return;
		}
		x->value = mem_dup(value.data, value.len);
		x->value_len = value.len;
	}
}

/* As decode_text, but it may be empty. */
static char *
decode_image_text(struct cursor *c)
{
	struct span s = cursor_string(c);

	if (c->bad || s.len > IMAGE_TEXT_LEN_MAX ||
	    (s.len > 0 && memchr(s.data, '\0', s.len) != NULL)) {
		c->bad = true;
		return NULL;
	}
	return s.len > 0 ? mem_strn(s.data, s.len) : mem_str("");
}

static void
decode_image(struct object *o, struct cursor *c)
{
	o->sector = (uint32_t)varint_up_to(c, SECTOR_MAX);
	if (o->sector < SECTOR_MIN || (o->sector & (o->sector - 1)) != 0)
		c->bad = true;
	if (!c->bad)
		o->fs_type = decode_image_text(c);
	if (!c->bad)
		o->fs_uuid = decode_image_text(c);
	if (!c->bad)
		o->fs_label = decode_image_text(c);
}

int
object_decode(struct object *o, struct span in, struct err *e)
{
	SCOPED_OBJECT struct object got = {0};
	struct cursor c = cursor_of(in);
	unsigned version = cursor_u8(&c), type;

	if (!c.bad && version != OBJECT_VERSION)
		return err_set(e, -EBADMSG,
		    "object record: version %u is not known here (1 is); a "
		    "newer neap wrote it",
		    version);
	type = cursor_u8(&c);
	if (type < OBJECT_FILE || type > OBJECT_IMAGE)
		c.bad = true;
	got.type = (enum object_type)type;
	decode_numbers(&got, &c);
	if (!c.bad)
		decode_target(&got, &c);
	if (!c.bad)
		decode_xattrs(&got, &c);
	if (!c.bad && type == OBJECT_IMAGE)
		decode_image(&got, &c);
	if (c.bad || cursor_left(&c) != 0)
		return err_set(e, -EBADMSG,
		    "object record: damaged near byte %zu of %zu",
		    in.len - cursor_left(&c), in.len);
	*o = got;
	got = (struct object){0};
	return 0;
}
