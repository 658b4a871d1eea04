/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/send_tree.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "agent/core/mem.h"

#define BUCKETS_FIRST 256u

static size_t
slot(
    const struct send_tree *t, const struct send_node *parent, struct span name)
{
	/* Seeded by the address: it only spreads, nothing depends on it. */
	return XXH3_64bits_withSeed(name.data, name.len, (uintptr_t)parent) &
	       (t->buckets - 1);
}

struct send_node *
send_tree_find(
    const struct send_tree *t, const struct send_node *parent, struct span name)
{
	struct send_node *n = t->bucket[slot(t, parent, name)];

	while (n != NULL && (n->parent != parent || n->name_len != name.len ||
				memcmp(n->name, name.data, name.len) != 0))
		n = n->hash_next;
	return n;
}

static void
hash_in(struct send_tree *t, struct send_node *n)
{
	size_t i = slot(t, n->parent, SPAN(n->name, n->name_len));

	n->hash_next = t->bucket[i];
	t->bucket[i] = n;
}

static void
grow(struct send_tree *t)
{
	struct send_node **old = t->bucket;
	size_t n = t->buckets;

	t->buckets *= 2;
	t->bucket = mem_array(t->buckets, sizeof *t->bucket);
	for (size_t i = 0; i < n; i++) {
		while (old[i] != NULL) {
			struct send_node *at = old[i];

			old[i] = at->hash_next;
			hash_in(t, at);
		}
	}
	free(old);
}

static size_t
size_of(const struct send_node *n)
{
	return sizeof *n + n->name_len + 32 +
	       (n->base ? strlen(n->base) + 1 : 0);
}

void
send_tree_attach(
    struct send_tree *t, struct send_node *parent, struct send_node *n)
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

void
send_tree_detach(struct send_tree *t, struct send_node *n)
{
	size_t i = slot(t, n->parent, SPAN(n->name, n->name_len));
	struct send_node **at = &t->bucket[i];

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

struct send_node *
send_tree_node(enum send_node_kind kind, struct span name, const char *base)
{
	struct send_node *n = mem_new(sizeof *n + name.len);

	n->kind = kind;
	n->base = kind == SEND_NODE_BASE ? mem_str(base) : NULL;
	n->name_len = name.len;
	memcpy(n->name, name.data, name.len);
	return n;
}

void
send_tree_node_free(struct send_node *n)
{
	free(n->base);
	free(n);
}

/* Not by recursion: the depth comes from the stream. */
void
send_tree_free_below(struct send_tree *t, struct send_node *top)
{
	struct send_node *n = top;

	while (top->child != NULL) {
		struct send_node *parent;

		while (n->child != NULL)
			n = n->child;
		parent = n->parent;
		send_tree_detach(t, n);
		send_tree_node_free(n);
		n = parent;
	}
}

void
send_tree_drop(struct send_tree *t, struct send_node *n)
{
	send_tree_free_below(t, n);
	send_tree_detach(t, n);
	send_tree_node_free(n);
}

struct send_tree *
send_tree_new(void)
{
	struct send_tree *t = mem_new(sizeof *t);

	t->buckets = BUCKETS_FIRST;
	t->bucket = mem_array(t->buckets, sizeof *t->bucket);
	t->root = send_tree_node(SEND_NODE_BASE, SPAN("", 0), "");
	return t;
}

void
send_tree_free(struct send_tree *t)
{
	send_tree_free_below(t, t->root);
	send_tree_node_free(t->root);
	free(t->bucket);
	free(t);
}
