/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables: segments of the index, and maps. Every entry of every frame is
 * looked at, against all rules that docs/format.md has for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/index_internal.h"
#include "agent/store/map_internal.h"
#include "agent/store/pack_format.h"
#include "agent/store/table_internal.h"
#include "tools/inspect/inspect.h"

struct scan {
	struct inspect *in;
	/* index */
	uint64_t chunks, packs, contained, pack_max;
	/* map */
	uint64_t names, names_gone, objects, objects_gone;
	uint64_t extents, zero_extents, blocks;
	uint64_t last_object, last_end; /* of the extent before */
	struct buf last_key;            /* of the frame before */
};

typedef int entry_fn(
    struct scan *s, struct span key, struct span value, struct err *e);

/* ---- index ---- */

static int
on_chunk(struct scan *s, struct span key, struct span value, struct err *e)
{
	struct chunk_place at;
	uint32_t number;
	int rc;

	if (key.len != 1 + sizeof(struct chunk_id))
		return err_set(
		    e, -EBADMSG, "the key of a chunk has %zu bytes", key.len);
	rc = index_decode_place(&at, &number, value, e);
	if (rc == 0)
		rc = pack_format_check_frame(at.len, at.blocks, at.codec, e);
	if (rc < 0)
		return rc;
	s->chunks++;
	/* The packs come behind all chunks: compared at the end. */
	if (number >= s->pack_max)
		s->pack_max = number + 1ull;
	if (s->in->list) {
		json_t *row = json_object();

		inspect_put_hex(
		    row, "chunk", (const uint8_t *)key.data + 1, key.len - 1);
		json_object_set_new(row, "pack", json_integer(number));
		json_object_set_new(row, "offset", json_integer(at.off));
		json_object_set_new(row, "bytes", json_integer(at.len));
		json_object_set_new(row, "blocks", json_integer(at.blocks));
		json_object_set_new(row, "codec",
		    json_string(at.codec == CODEC_RAW ? "raw" : "zstd"));
		inspect_row(s->in, row);
	}
	return 0;
}

static int
on_pack(struct scan *s, struct span key, struct span value, struct err *e)
{
	const uint8_t *k = key.data;
	uint64_t number;

	if (key.len != 5 || value.len != TABLE_ID_LEN)
		return err_set(e, -EBADMSG, "the entry of a pack is damaged");
	number = (uint64_t)k[1] << 24 | (uint64_t)k[2] << 16 |
		 (uint64_t)k[3] << 8 | k[4];
	if (number != s->packs)
		return err_set(e, -EBADMSG, "pack number %llu follows on %llu",
		    (unsigned long long)number, (unsigned long long)s->packs);
	s->packs++;
	if (s->in->list) {
		json_t *row = json_object();

		json_object_set_new(
		    row, "pack", json_integer((json_int_t)number));
		inspect_put_hex(row, "id", value.data, value.len);
		inspect_row(s->in, row);
	}
	return 0;
}

static int
on_contained(struct scan *s, struct span key, struct span value, struct err *e)
{
	if (key.len != 1 + TABLE_ID_LEN || value.len != 0)
		return err_set(
		    e, -EBADMSG, "the name of a contained segment is damaged");
	s->contained++;
	if (s->in->list) {
		json_t *row = json_object();

		inspect_put_hex(row, "contains", (const uint8_t *)key.data + 1,
		    TABLE_ID_LEN);
		inspect_row(s->in, row);
	}
	return 0;
}

static int
on_index_entry(
    struct scan *s, struct span key, struct span value, struct err *e)
{
	switch (*(const uint8_t *)key.data) {
	case INDEX_TAG_CHUNK:
		return on_chunk(s, key, value, e);
	case INDEX_TAG_PACK:
		return on_pack(s, key, value, e);
	case INDEX_TAG_OLDER:
		return on_contained(s, key, value, e);
	default:
		return err_set(e, -EBADMSG, "an index has no such entry");
	}
}

static int
end_index(struct scan *s, struct err *e)
{
	inspect_say_int(s->in, "chunks", s->chunks);
	inspect_say_int(s->in, "packs", s->packs);
	inspect_say_int(s->in, "contains", s->contained);
	if (s->pack_max > s->packs)
		return err_set(e, -EBADMSG,
		    "a chunk lies in pack number %llu, which is not in it",
		    (unsigned long long)(s->pack_max - 1));
	return 0;
}

/* ---- map ---- */

static int
on_extent(struct scan *s, struct span key, struct span value, struct err *e)
{
	struct map_extent x;
	uint64_t object;
	int rc = map_decode_extent(&object, &x, key, value, e);

	if (rc < 0)
		return rc;
	if (object == 0)
		return err_set(e, -EBADMSG, "an extent of object 0");
	if (s->extents > 0 && object == s->last_object && x.block < s->last_end)
		return err_set(e, -EBADMSG,
		    "the extent of object %llu at block %llu overlaps the one "
		    "before",
		    (unsigned long long)object, (unsigned long long)x.block);
	s->last_object = object;
	s->last_end = x.block + x.count;
	s->extents++;
	s->zero_extents += x.zero;
	s->blocks += x.zero ? 0 : x.count;
	if (s->in->list) {
		json_t *row = json_object();

		json_object_set_new(
		    row, "extent", json_integer((json_int_t)object));
		json_object_set_new(
		    row, "block", json_integer((json_int_t)x.block));
		json_object_set_new(row, "count", json_integer(x.count));
		if (x.zero) {
			json_object_set_new(row, "zero", json_true());
		} else {
			json_object_set_new(row, "slot", json_integer(x.slot));
			inspect_put_hex(row, "chunk", x.chunk.b, 32);
		}
		inspect_row(s->in, row);
	}
	return 0;
}

static int
on_name(struct scan *s, struct span key, struct span value, struct err *e)
{
	uint64_t folder, object;
	struct span name;
	int rc = map_decode_name(&folder, &name, &object, key, value, e);

	if (rc == 0 && folder == 0)
		rc = err_set(e, -EBADMSG, "a name in object 0");
	if (rc < 0)
		return rc;
	s->names += object != 0;
	s->names_gone += object == 0;
	if (s->in->list) {
		json_t *row = json_object();

		json_object_set_new(
		    row, "folder", json_integer((json_int_t)folder));
		inspect_put_bytes(row, "name", name);
		if (object != 0)
			json_object_set_new(
			    row, "object", json_integer((json_int_t)object));
		else
			json_object_set_new(row, "gone", json_true());
		inspect_row(s->in, row);
	}
	return 0;
}

static void
list_object(struct scan *s, uint64_t object, const struct object *o)
{
	static const char *const types[] = {"?", "file", "folder", "link",
	    "fifo", "socket", "char", "block", "image"};
	json_t *row = json_object();
	char mode[8];

	json_object_set_new(row, "object", json_integer((json_int_t)object));
	if (o == NULL) {
		json_object_set_new(row, "gone", json_true());
		inspect_row(s->in, row);
		return;
	}
	snprintf(mode, sizeof mode, "%04o", o->mode);
	json_object_set_new(row, "type", json_string(types[o->type]));
	json_object_set_new(row, "mode", json_string(mode));
	json_object_set_new(row, "uid", json_integer(o->uid));
	json_object_set_new(row, "gid", json_integer(o->gid));
	json_object_set_new(row, "links", json_integer(o->nlink));
	json_object_set_new(row, "size", json_integer((json_int_t)o->size));
	json_object_set_new(row, "mtime", json_integer(o->mtime_s));
	if (o->target != NULL)
		inspect_put_bytes(
		    row, "target", SPAN(o->target, strlen(o->target)));
	if (o->xattrs > 0)
		json_object_set_new(
		    row, "xattrs", json_integer((json_int_t)o->xattrs));
	if (o->type == OBJECT_IMAGE) {
		json_object_set_new(row, "sector", json_integer(o->sector));
		inspect_put_bytes(
		    row, "fs_type", SPAN(o->fs_type, strlen(o->fs_type)));
		inspect_put_bytes(
		    row, "fs_uuid", SPAN(o->fs_uuid, strlen(o->fs_uuid)));
		inspect_put_bytes(
		    row, "fs_label", SPAN(o->fs_label, strlen(o->fs_label)));
	}
	inspect_row(s->in, row);
}

static int
on_object(struct scan *s, struct span key, struct span value, struct err *e)
{
	SCOPED_OBJECT struct object o = {0};
	bool gone = value.len == 0;
	uint64_t object;
	int rc = map_decode_object_key(&object, key, e);

	if (rc == 0 && !gone && object_decode(&o, value, e) < 0)
		rc = err_wrap(e, "object %llu", (unsigned long long)object);
	if (rc < 0)
		return rc;
	s->objects += !gone;
	s->objects_gone += gone;
	if (s->in->list)
		list_object(s, object, gone ? NULL : &o);
	return 0;
}

static int
on_map_entry(struct scan *s, struct span key, struct span value, struct err *e)
{
	switch (*(const uint8_t *)key.data) {
	case MAP_TAG_EXTENT:
		return on_extent(s, key, value, e);
	case MAP_TAG_NAME:
		return on_name(s, key, value, e);
	case MAP_TAG_OBJECT:
		return on_object(s, key, value, e);
	default:
		return err_set(e, -EBADMSG, "a map has no such entry");
	}
}

static int
end_map(struct scan *s, struct err *e)
{
	(void)e;
	inspect_say_int(s->in, "names", s->names);
	inspect_say_int(s->in, "names_gone", s->names_gone);
	inspect_say_int(s->in, "objects", s->objects);
	inspect_say_int(s->in, "objects_gone", s->objects_gone);
	inspect_say_int(s->in, "extents", s->extents);
	inspect_say_int(s->in, "zero_extents", s->zero_extents);
	inspect_say_int(s->in, "blocks", s->blocks);
	return 0;
}

/* ---- any table ---- */

static int
one_frame(
    struct scan *s, struct table *t, uint32_t n, entry_fn *fn, struct err *e)
{
	uint64_t off = table_dir_item(table_directory(t), n).off;
	struct table_frame *f;
	int rc = table_take_frame(t, n, &f, e);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < f->entries; i++) {
		struct span key, value;

		table_frame_entry(f, i, &key, &value);
		/* Within a frame the library has compared them. */
		if (i == 0 && span_cmp(buf_span(&s->last_key), key) >= 0)
			rc = err_set(e, -EBADMSG, "its key is out of order");
		if (rc == 0)
			rc = fn(s, key, value, e);
		if (rc < 0)
			err_wrap(e, "offset %llu: frame %u, entry %u",
			    (unsigned long long)off, n, i);
		if (i + 1 == f->entries) {
			buf_clear(&s->last_key);
			buf_put(&s->last_key, key.data, key.len);
		}
	}
	table_frame_unref(f);
	return rc;
}

static int
all_frames(struct inspect *in, struct table *t, bool index, struct err *e)
{
	struct scan s = {.in = in};
	const struct table_dir *d = table_directory(t);
	uint64_t sum;
	int rc = 0;

	inspect_say_int(in, "frames", d->frames);
	inspect_say_int(in, "entries", d->entries);
	for (uint32_t n = 0; rc == 0 && n < d->frames; n++)
		rc = one_frame(
		    &s, t, n, index ? on_index_entry : on_map_entry, e);
	buf_free(&s.last_key);
	if (rc == 0)
		rc = index ? end_index(&s, e) : end_map(&s, e);
	sum = s.chunks + s.packs + s.contained + s.names + s.names_gone +
	      s.objects + s.objects_gone + s.extents;
	if (rc == 0 && sum != d->entries)
		rc = err_set(e, -EBADMSG,
		    "its directory counts %llu entries, its frames hold %llu",
		    (unsigned long long)d->entries, (unsigned long long)sum);
	return rc;
}

/* What no key is needed for: that nothing is cut off. */
static int
trailer(struct inspect *in, struct err *e)
{
	unsigned long long at = in->len - TABLE_TRAILER_LEN;
	uint8_t p[TABLE_TRAILER_LEN];
	uint64_t off, len;
	int rc;

	if (in->len < TABLE_HEADER_LEN + TABLE_TRAILER_LEN)
		return err_set(e, -EBADMSG,
		    "offset %llu: it ends before a trailer can be",
		    (unsigned long long)in->len);
	rc = repo_get(in->repo, "table", at, p, sizeof p, e);
	if (rc < 0)
		return rc;
	off = bytes_le64(p + 8);
	len = bytes_le32(p + 16);
	if (memcmp(p, TABLE_END_MAGIC, 8) != 0)
		return err_set(e, -EBADMSG,
		    "offset %llu: no trailer; the table is cut off or damaged",
		    at);
	if (XXH64(p, 24, 0) != bytes_le64(p + 24))
		return err_set(e, -EBADMSG,
		    "offset %llu: the trailer's checksum does not fit", at);
	inspect_say_int(in, "directory_offset", off);
	inspect_say_int(in, "directory_bytes", len);
	if (off < TABLE_HEADER_LEN || off > at || at - off != len)
		return err_set(e, -EBADMSG,
		    "offset %llu: the trailer does not fit the file's length",
		    at);
	return 0;
}

static int
outside(struct inspect *in, struct err *e)
{
	const uint8_t *h = in->head;
	int rc;

	inspect_say_int(in, "version", bytes_le16(h + 8));
	inspect_say_str(in, "kind",
	    h[10] == TABLE_INDEX ? "index segment"
	    : h[10] == TABLE_MAP ? "map"
				 : "unknown");
	inspect_say_int(in, "flags", h[11]);
	inspect_say_hex(in, "id", h + 16, TABLE_ID_LEN);
	if (bytes_le16(h + 8) != TABLE_VERSION)
		return err_set(e, -EOPNOTSUPP,
		    "offset 8: table version %u, this neap knows %d",
		    bytes_le16(h + 8), TABLE_VERSION);
	if (h[10] != TABLE_INDEX && h[10] != TABLE_MAP)
		return err_set(
		    e, -EBADMSG, "offset 10: no table is of kind %u", h[10]);
	if (h[11] > TABLE_FLAG_ENCRYPTED)
		return err_set(e, -EBADMSG, "offset 11: flags %#x", h[11]);
	rc = inspect_check_name(in, h + 16, e);
	return rc < 0 ? rc : trailer(in, e);
}

int
inspect_table(struct inspect *in, struct err *e)
{
	SCOPED_KEYS struct keys k = {0};
	enum table_kind kind = in->head[10];
	struct table *t;
	int rc = outside(in, e);

	if (rc == 0)
		rc = inspect_keys(in, in->head[11] != 0, &k, e);
	if (rc == 0)
		rc = table_open(&t, in->repo, &k, kind, in->head + 16, e);
	if (rc < 0)
		return rc;
	rc = all_frames(in, t, kind == TABLE_INDEX, e);
	table_close(t);
	return rc;
}
