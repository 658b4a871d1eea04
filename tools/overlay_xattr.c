/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "agent/core/mem.h"
#include "tools/overlay_parts.h"

/* Where `name` is, or where it belongs. */
static size_t
place_of(const struct object *o, const char *name, bool *there)
{
	size_t i = 0;

	while (i < o->xattrs && strcmp(o->xattr[i].name, name) < 0)
		i++;
	*there = i < o->xattrs && strcmp(o->xattr[i].name, name) == 0;
	return i;
}

/*
 * An access ACL holds the mode bits too: owner, mask (or group), others. Value:
 * u32 version 2, then entries u16 tag, u16 permissions, u32 id
 * (include/uapi/linux/posix_acl_xattr.h).
 */
static void
mode_from_acl(struct object *o, struct span v)
{
	struct cursor c = cursor_of(v);
	int user = -1, group = -1, mask = -1, other = -1;

	cursor_le32(&c);
	while (cursor_left(&c) >= 8) {
		uint16_t tag = cursor_le16(&c);
		int perm = cursor_le16(&c) & 7;

		cursor_le32(&c);
		if (tag == 0x01)
			user = perm;
		else if (tag == 0x04)
			group = perm;
		else if (tag == 0x10)
			mask = perm;
		else if (tag == 0x20)
			other = perm;
	}
	if (mask >= 0)
		group = mask;
	if (user >= 0 && group >= 0 && other >= 0)
		o->mode = (o->mode & 07000) |
			  (uint32_t)(user << 6 | group << 3 | other);
}

static int
set_locked(struct overlay *ov, uint64_t ino, const char *name,
    struct span value, int flags)
{
	struct overlay_node *n;
	struct object_xattr *x;
	bool there;
	size_t i;
	int rc = overlay_node(ov, ino, &n);

	if (rc < 0)
		return rc;
	i = place_of(&n->o, name, &there);
	if (there && (flags & XATTR_CREATE) != 0)
		return -EEXIST;
	if (!there && (flags & XATTR_REPLACE) != 0)
		return -ENODATA;
	if (!there) {
		n->o.xattr = mem_grow(n->o.xattr, n->o.xattrs + 1, sizeof *x);
		memmove(&n->o.xattr[i + 1], &n->o.xattr[i],
		    (n->o.xattrs - i) * sizeof *x);
		n->o.xattrs++;
		n->o.xattr[i] = (struct object_xattr){.name = mem_str(name)};
	}
	x = &n->o.xattr[i];
	free(x->value);
	x->value = value.len > 0 ? mem_dup(value.data, value.len) : NULL;
	x->value_len = value.len;
	if (strcmp(name, "system.posix_acl_access") == 0)
		mode_from_acl(&n->o, value);
	overlay_now(&n->ctime);
	n->changed = true;
	return 0;
}

int
overlay_setxattr(struct overlay *ov, uint64_t ino, const char *name,
    struct span value, int flags)
{
	int rc;

	if (!overlay_writable(ov))
		return -EROFS;
	pthread_rwlock_wrlock(&ov->lock);
	rc = set_locked(ov, ino, name, value, flags);
	pthread_rwlock_unlock(&ov->lock);
	return rc;
}

int
overlay_removexattr(struct overlay *ov, uint64_t ino, const char *name)
{
	struct overlay_node *n;
	bool there;
	size_t i;
	int rc;

	if (!overlay_writable(ov))
		return -EROFS;
	pthread_rwlock_wrlock(&ov->lock);
	rc = overlay_node(ov, ino, &n);
	if (rc == 0) {
		i = place_of(&n->o, name, &there);
		rc = there ? 0 : -ENODATA;
	}
	if (rc == 0) {
		free(n->o.xattr[i].name);
		free(n->o.xattr[i].value);
		n->o.xattrs--;
		memmove(&n->o.xattr[i], &n->o.xattr[i + 1],
		    (n->o.xattrs - i) * sizeof *n->o.xattr);
		overlay_now(&n->ctime);
		n->changed = true;
	}
	pthread_rwlock_unlock(&ov->lock);
	return rc;
}
