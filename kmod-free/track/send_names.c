/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/send_names.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "agent/core/mem.h"

enum kind {
	BASE, /* the object that the older snapshot has at `base` */
	NEW,  /* made by the stream; all that is below it is in the tree */
	GONE, /* hides the older snapshot's object of that name */
};

struct node {
	enum kind kind;
	char *base; /* BASE: path in the older snapshot */
	struct node *parent, *child, *next, *prev; /* siblings by next, prev */
	struct node *hash_next;
	size_t name_len;
	char name[];
};

struct send_names {
	struct node *root;
	struct node **bucket;
	size_t buckets, n;
	size_t bytes; /* of all nodes */
};

#define BUCKETS_FIRST 256u

/* ---- nodes ---- */

static size_t
slot(const struct send_names *t, const struct node *parent, struct span name)
{
	/* Seeded by the address: it only spreads, nothing depends on it. */
	return XXH3_64bits_withSeed(name.data, name.len, (uintptr_t)parent) &
	       (t->buckets - 1);
}

static struct node *
find(const struct send_names *t, const struct node *parent, struct span name)
{
	struct node *n = t->bucket[slot(t, parent, name)];

	while (n != NULL && (n->parent != parent || n->name_len != name.len ||
				memcmp(n->name, name.data, name.len) != 0))
		n = n->hash_next;
	return n;
}

static void
hash_in(struct send_names *t, struct node *n)
{
	size_t i = slot(t, n->parent, SPAN(n->name, n->name_len));

	n->hash_next = t->bucket[i];
	t->bucket[i] = n;
}

static void
grow(struct send_names *t)
{
	struct node **old = t->bucket;
	size_t n = t->buckets;

	t->buckets *= 2;
	t->bucket = mem_array(t->buckets, sizeof *t->bucket);
	for (size_t i = 0; i < n; i++) {
		while (old[i] != NULL) {
			struct node *at = old[i];

			old[i] = at->hash_next;
			hash_in(t, at);
		}
	}
	free(old);
}

static size_t
size_of(const struct node *n)
{
	return sizeof *n + n->name_len + 32 +
	       (n->base ? strlen(n->base) + 1 : 0);
}

static void
attach(struct send_names *t, struct node *parent, struct node *n)
{
	if (t->n++ == t->buckets)
		grow(t);
	n->parent = parent;
	n->prev = NULL;
	n->next = parent->child;
	if (n->next != NULL)
		n->next->prev = n;
	parent->child = n;
	hash_in(t, n);
	t->bytes += size_of(n);
}

/* Out of its folder, with all that is below it. */
static void
detach(struct send_names *t, struct node *n)
{
	size_t i = slot(t, n->parent, SPAN(n->name, n->name_len));
	struct node **at = &t->bucket[i];

	while (*at != n)
		at = &(*at)->hash_next;
	*at = n->hash_next;
	if (n->prev != NULL)
		n->prev->next = n->next;
	else
		n->parent->child = n->next;
	if (n->next != NULL)
		n->next->prev = n->prev;
	t->bytes -= size_of(n);
	t->n--;
}

static struct node *
node_new(enum kind kind, struct span name, const char *base)
{
	struct node *n = mem_new(sizeof *n + name.len);

	n->kind = kind;
	n->base = kind == BASE ? mem_str(base) : NULL;
	n->name_len = name.len;
	memcpy(n->name, name.data, name.len);
	return n;
}

static void
node_free(struct node *n)
{
	free(n->base);
	free(n);
}

/* Not by recursion: the depth comes from the stream. */
static void
free_below(struct send_names *t, struct node *top)
{
	struct node *n = top;

	while (top->child != NULL) {
		struct node *parent;

		while (n->child != NULL)
			n = n->child;
		parent = n->parent;
		detach(t, n);
		node_free(n);
		n = parent;
	}
}

static void
drop(struct send_names *t, struct node *n)
{
	free_below(t, n);
	detach(t, n);
	node_free(n);
}

struct send_names *
send_names_new(void)
{
	struct send_names *t = mem_new(sizeof *t);

	t->buckets = BUCKETS_FIRST;
	t->bucket = mem_array(t->buckets, sizeof *t->bucket);
	t->root = node_new(BASE, SPAN("", 0), "");
	return t;
}

void
send_names_free(struct send_names *t)
{
	if (t == NULL)
		return;
	free_below(t, t->root);
	node_free(t->root);
	free(t->bucket);
	free(t);
}

/* ---- paths ---- */

static int
senseless(struct span path, const char *what, struct err *e)
{
	return err_set(e, -ESTALE, "send stream: %s: \"%.*s\"", what,
	    (int)(path.len < 400 ? path.len : 400), (const char *)path.data);
}

/* The first name of a path, and what follows it. */
static struct span
first_name(struct span *path)
{
	const char *p = path->data;
	const char *slash = memchr(p, '/', path->len);
	size_t n = slash ? (size_t)(slash - p) : path->len;
	size_t skip = slash ? n + 1 : n;

	*path = SPAN(p + skip, path->len - skip);
	return SPAN(p, n);
}

static int
check_path(struct span path, struct err *e)
{
	struct span rest = path;

	if (path.len > 0 && (memchr(path.data, 0, path.len) != NULL ||
				((const char *)path.data)[path.len - 1] == '/'))
		return senseless(path, "not a path", e);
	while (rest.len > 0) {
		struct span name = first_name(&rest);

		if (name.len == 0 || span_cmp(name, span_str(".")) == 0 ||
		    span_cmp(name, span_str("..")) == 0)
			return senseless(path, "not a path", e);
	}
	return 0;
}

static void
put_name(struct buf *base, struct span name)
{
	if (base->len > 0)
		buf_put_u8(base, '/');
	buf_put(base, name.data, name.len);
}

/*
 * Where a path leads. Either to a node; or off the tree, into a part of the
 * older snapshot in which nothing has changed: *out is NULL and `base` is the
 * path there, without a NUL.
 */
static int
walk(struct send_names *t, struct span path, struct node **out,
    struct buf *base, struct err *e)
{
	struct node *at = t->root;
	struct span rest = path;
	int rc = check_path(path, e);

	if (rc < 0)
		return rc;
	buf_clear(base);
	while (rest.len > 0) {
		struct span name = first_name(&rest);
		struct node *next = at ? find(t, at, name) : NULL;

		if (next != NULL && next->kind == GONE)
			return senseless(path, "what it names is gone", e);
		if (next == NULL && at != NULL) {
			if (at->kind == NEW)
				return senseless(
				    path, "what it names was never made", e);
			buf_put(base, at->base, strlen(at->base));
		}
		if (next == NULL)
			put_name(base, name);
		at = next;
	}
	*out = at;
	return 0;
}

/* Split off the last name; the path of the root has none. */
static int
split(struct span path, struct span *dir, struct span *name, struct err *e)
{
	const char *p = path.data;
	const char *slash;
	int rc = check_path(path, e);

	if (rc < 0)
		return rc;
	if (path.len == 0)
		return senseless(path, "the root cannot be moved", e);
	slash = memrchr(p, '/', path.len);
	*dir = SPAN(p, slash ? (size_t)(slash - p) : 0);
	*name = slash ? SPAN(slash + 1, path.len - dir->len - 1) : path;
	return 0;
}

/* The node of a folder, made (with those above it) where it has none. */
static int
reach(struct send_names *t, struct span dir, struct node **out, struct err *e)
{
	SCOPED_BUF struct buf base = {0};
	struct span rest = dir;
	struct node *at;
	int rc = walk(t, dir, &at, &base, e);

	if (rc < 0)
		return rc;
	at = t->root;
	buf_clear(&base);
	while (rest.len > 0) {
		struct span name = first_name(&rest);
		struct node *next = find(t, at, name);

		if (next == NULL) {
			buf_clear(&base);
			buf_put(&base, at->base, strlen(at->base));
			put_name(&base, name);
			buf_put_u8(&base, 0);
			next = node_new(BASE, name, (char *)base.data);
			attach(t, at, next);
		}
		at = next;
	}
	*out = at;
	return 0;
}

/* Put `n` (owned) at a name, over what is there. */
static int
place(struct send_names *t, struct node *dir, struct node *n, struct err *e)
{
	struct node *old = find(t, dir, SPAN(n->name, n->name_len));

	if (old != NULL)
		drop(t, old);
	attach(t, dir, n);
	if (t->bytes > SEND_NAMES_BYTES_MAX)
		return err_set(e, -ESTALE,
		    "more than %zu names changed: too many to be followed",
		    t->n);
	return 0;
}

/* Nothing is at that name any more. */
static int
vacate(struct send_names *t, struct node *dir, struct span name, struct err *e)
{
	struct node *old;

	if (dir->kind == BASE)
		return place(t, dir, node_new(GONE, name, NULL), e);
	old = find(t, dir, name);
	if (old != NULL)
		drop(t, old);
	return 0;
}

/* A node of that name for an object that walk found. */
static struct node *
another(const struct node *at, const struct buf *base, struct span name)
{
	SCOPED_FREE char *path = NULL;

	if (at != NULL)
		return node_new(at->kind, name, at->base);
	path = mem_strn((const char *)base->data, base->len);
	return node_new(BASE, name, path);
}

int
send_names_make(struct send_names *t, struct span path, struct err *e)
{
	struct span dir, name;
	struct node *at;
	int rc = split(path, &dir, &name, e);

	if (rc < 0)
		return rc;
	rc = reach(t, dir, &at, e);
	if (rc < 0)
		return rc;
	return place(t, at, node_new(NEW, name, NULL), e);
}

int
send_names_link(
    struct send_names *t, struct span path, struct span target, struct err *e)
{
	SCOPED_BUF struct buf base = {0};
	struct span dir, name;
	struct node *at, *to;
	int rc = split(path, &dir, &name, e);

	if (rc < 0)
		return rc;
	rc = reach(t, dir, &to, e);
	if (rc < 0)
		return rc;
	rc = walk(t, target, &at, &base, e);
	if (rc < 0)
		return rc;
	/* Folders have one name; a copy would lose what is below. */
	if (at != NULL && at->child != NULL)
		return senseless(target, "a second name for a folder", e);
	return place(t, to, another(at, &base, name), e);
}

int
send_names_remove(struct send_names *t, struct span path, struct err *e)
{
	SCOPED_BUF struct buf base = {0};
	struct span dir, name;
	struct node *at;
	int rc = split(path, &dir, &name, e);

	if (rc < 0)
		return rc;
	rc = walk(t, path, &at, &base, e);
	if (rc < 0)
		return rc;
	rc = reach(t, dir, &at, e);
	if (rc < 0)
		return rc;
	return vacate(t, at, name, e);
}

/* Hang what is below one node below another, which has nothing yet. */
static void
move_children(struct send_names *t, struct node *from, struct node *to)
{
	while (from->child != NULL) {
		struct node *n = from->child;

		detach(t, n);
		attach(t, to, n);
	}
}

/* `moved` stands for the object while it has no name. */
static int
rename_to(
    struct send_names *t, struct node *moved, struct span to, struct err *e)
{
	struct span dir, name;
	struct node *at, *n;
	int rc = split(to, &dir, &name, e);

	if (rc < 0)
		return rc;
	/* Not below itself: its old name is gone already. */
	rc = reach(t, dir, &at, e);
	if (rc < 0)
		return rc;
	n = node_new(moved->kind, name, moved->base);
	rc = place(t, at, n, e);
	if (rc < 0)
		return rc;
	move_children(t, moved, n);
	return 0;
}

int
send_names_rename(
    struct send_names *t, struct span from, struct span to, struct err *e)
{
	SCOPED_BUF struct buf base = {0};
	struct span dir, name;
	struct node *at, *home, *moved;
	int rc = split(from, &dir, &name, e);

	if (rc < 0)
		return rc;
	rc = walk(t, from, &at, &base, e);
	if (rc < 0)
		return rc;
	moved = another(at, &base, name);
	if (at != NULL)
		move_children(t, at, moved);
	rc = reach(t, dir, &home, e);
	if (rc >= 0)
		rc = vacate(t, home, name, e);
	if (rc >= 0)
		rc = rename_to(t, moved, to, e);
	free_below(t, moved);
	node_free(moved);
	return rc;
}

int
send_names_resolve(
    struct send_names *t, struct span path, struct buf *base, struct err *e)
{
	struct node *at;
	int rc = walk(t, path, &at, base, e);

	if (rc < 0)
		return rc;
	if (at != NULL && at->kind == NEW)
		return 0;
	if (at != NULL)
		buf_put(base, at->base, strlen(at->base));
	buf_put_u8(base, 0);
	return 1;
}
