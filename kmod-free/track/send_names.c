/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/send_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "kmod-free/track/send_tree.h"

struct send_names {
	struct send_tree *tree;
};

struct send_names *
send_names_new(void)
{
	struct send_names *t = mem_new(sizeof *t);

	t->tree = send_tree_new();
	return t;
}

void
send_names_free(struct send_names *t)
{
	if (t == NULL)
		return;
	send_tree_free(t->tree);
	free(t);
}

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
walk(struct send_names *t, struct span path, struct send_node **out,
    struct buf *base, struct err *e)
{
	struct send_node *at = t->tree->root;
	struct span rest = path;
	int rc = check_path(path, e);

	if (rc < 0)
		return rc;
	buf_clear(base);
	while (rest.len > 0) {
		struct span name = first_name(&rest);
		struct send_node *next =
		    at ? send_tree_find(t->tree, at, name) : NULL;

		if (next != NULL && next->kind == SEND_NODE_GONE)
			return senseless(path, "what it names is gone", e);
		if (next == NULL && at != NULL) {
			if (at->kind == SEND_NODE_NEW)
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
reach(struct send_names *t, struct span dir, struct send_node **out,
    struct err *e)
{
	SCOPED_BUF struct buf base = {0};
	struct span rest = dir;
	struct send_node *at;
	int rc = walk(t, dir, &at, &base, e);

	if (rc < 0)
		return rc;
	at = t->tree->root;
	buf_clear(&base);
	while (rest.len > 0) {
		struct span name = first_name(&rest);
		struct send_node *next = send_tree_find(t->tree, at, name);

		if (next == NULL) {
			buf_clear(&base);
			buf_put(&base, at->base, strlen(at->base));
			put_name(&base, name);
			buf_put_u8(&base, 0);
			next = send_tree_node(
			    SEND_NODE_BASE, name, (char *)base.data);
			send_tree_attach(t->tree, at, next);
		}
		at = next;
	}
	*out = at;
	return 0;
}

/* Put `n` (owned) at a name, over what is there. */
static int
place(struct send_names *t, struct send_node *dir, struct send_node *n,
    struct err *e)
{
	struct send_node *old =
	    send_tree_find(t->tree, dir, SPAN(n->name, n->name_len));

	if (old != NULL)
		send_tree_drop(t->tree, old);
	send_tree_attach(t->tree, dir, n);
	if (t->tree->bytes > SEND_NAMES_BYTES_MAX)
		return err_set(e, -ESTALE,
		    "more than %zu names changed: too many to be followed",
		    t->tree->n);
	return 0;
}

/* Nothing is at that name any more. */
static int
vacate(struct send_names *t, struct send_node *dir, struct span name,
    struct err *e)
{
	struct send_node *old;

	if (dir->kind == SEND_NODE_BASE)
		return place(
		    t, dir, send_tree_node(SEND_NODE_GONE, name, NULL), e);
	old = send_tree_find(t->tree, dir, name);
	if (old != NULL)
		send_tree_drop(t->tree, old);
	return 0;
}

/* A node of that name for an object that walk found. */
static struct send_node *
another(const struct send_node *at, const struct buf *base, struct span name)
{
	SCOPED_FREE char *path = NULL;

	if (at != NULL)
		return send_tree_node(at->kind, name, at->base);
	path = mem_strn((const char *)base->data, base->len);
	return send_tree_node(SEND_NODE_BASE, name, path);
}

int
send_names_make(struct send_names *t, struct span path, struct err *e)
{
	struct span dir, name;
	struct send_node *at;
	int rc = split(path, &dir, &name, e);

	if (rc < 0)
		return rc;
	rc = reach(t, dir, &at, e);
	if (rc < 0)
		return rc;
	return place(t, at, send_tree_node(SEND_NODE_NEW, name, NULL), e);
}

int
send_names_link(
    struct send_names *t, struct span path, struct span target, struct err *e)
{
	SCOPED_BUF struct buf base = {0};
	struct span dir, name;
	struct send_node *at, *to;
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
	struct send_node *at;
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
move_children(
    struct send_names *t, struct send_node *from, struct send_node *to)
{
	while (from->child != NULL) {
		struct send_node *n = from->child;

		send_tree_detach(t->tree, n);
		send_tree_attach(t->tree, to, n);
	}
}

/* `moved` stands for the object while it has no name. */
static int
rename_to(struct send_names *t, struct send_node *moved, struct span to,
    struct err *e)
{
	struct span dir, name;
	struct send_node *at, *n;
	int rc = split(to, &dir, &name, e);

	if (rc < 0)
		return rc;
	/* Not below itself: its old name is gone already. */
	rc = reach(t, dir, &at, e);
	if (rc < 0)
		return rc;
	n = send_tree_node(moved->kind, name, moved->base);
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
	struct send_node *at, *home, *moved;
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
	send_tree_free_below(t->tree, moved);
	send_tree_node_free(moved);
	return rc;
}

int
send_names_resolve(
    struct send_names *t, struct span path, struct buf *base, struct err *e)
{
	struct send_node *at;
	int rc = walk(t, path, &at, base, e);

	if (rc < 0)
		return rc;
	if (at != NULL && at->kind == SEND_NODE_NEW)
		return 0;
	if (at != NULL)
		buf_put(base, at->base, strlen(at->base));
	buf_put_u8(base, 0);
	return 1;
}
