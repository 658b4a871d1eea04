/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/names.h"

#include <stddef.h>
#include <string.h>

#include "agent/core/mem.h"

static void
free_below(struct names_entry *x)
{
	if (x == NULL)
		return;
	free_below(x->left);
	free_below(x->right);
	free(x);
}

void
names_fini(struct names *n)
{
	free_below(n->root);
	n->root = NULL;
}

const struct names_entry *
names_find(const struct names *n, const char *name)
{
	const struct names_entry *x = n->root;
	int c;

	while (x != NULL && (c = strcmp(name, x->name)) != 0)
		x = c < 0 ? x->left : x->right;
	return x;
}

/* xorshift: only the shape of the tree hangs on it. */
static uint32_t
next_rank(struct names *n)
{
	uint32_t x = n->seed ? n->seed : 0x9e3779b9u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	n->seed = x;
	return x;
}

/* Split by name: below `name` to *l, above to *r. It is not in the tree. */
static void
split(struct names_entry *x, const char *name, struct names_entry **l,
    struct names_entry **r)
{
	while (x != NULL) {
		if (strcmp(x->name, name) < 0) {
			*l = x;
			l = &x->right;
			x = x->right;
		} else {
			*r = x;
			r = &x->left;
			x = x->left;
		}
	}
	*l = *r = NULL;
}

static void
join(struct names_entry **at, struct names_entry *l, struct names_entry *r)
{
	while (l != NULL && r != NULL) {
		if (l->rank > r->rank) {
			*at = l;
			at = &l->right;
			l = l->right;
		} else {
			*at = r;
			at = &r->left;
			r = r->left;
		}
	}
	*at = l != NULL ? l : r;
}

void
names_set(struct names *n, const char *name, uint64_t ino)
{
	struct names_entry *x = (struct names_entry *)names_find(n, name);
	struct names_entry **at = &n->root;
	size_t len = strlen(name) + 1;

	if (x != NULL) {
		x->ino = ino;
		return;
	}
	x = mem_new(offsetof(struct names_entry, name) + len);
	memcpy(x->name, name, len);
	x->ino = ino;
	x->rank = next_rank(n);
	while (*at != NULL && (*at)->rank >= x->rank)
		at = strcmp(name, (*at)->name) < 0 ? &(*at)->left
						   : &(*at)->right;
	split(*at, name, &x->left, &x->right);
	*at = x;
}

void
names_remove(struct names *n, const char *name)
{
	struct names_entry **at = &n->root;
	struct names_entry *x;
	int c;

	while (*at != NULL && (c = strcmp(name, (*at)->name)) != 0)
		at = c < 0 ? &(*at)->left : &(*at)->right;
	x = *at;
	if (x == NULL)
		return;
	join(at, x->left, x->right);
	free(x);
}

const struct names_entry *
names_next(const struct names *n, const char *after)
{
	const struct names_entry *x = n->root, *best = NULL;

	while (x != NULL) {
		if (after == NULL || strcmp(x->name, after) > 0) {
			best = x;
			x = x->left;
		} else {
			x = x->right;
		}
	}
	return best;
}
