/*
 * The tree under send_names: nodes for the names that changed, found by folder
 * and name in one hash table. Internal to send_names. One thread's.
 */
#ifndef NEAP_TRACK_SEND_TREE_H
#define NEAP_TRACK_SEND_TREE_H

#include <stddef.h>

#include "agent/core/bytes.h"

enum send_node_kind {
	SEND_NODE_BASE, /* the object that the older snapshot has at `base` */
	SEND_NODE_NEW,  /* made by the stream; all below it is in the tree */
	SEND_NODE_GONE, /* hides the older snapshot's object of that name */
};

struct send_node {
	enum send_node_kind kind;
	char *base; /* SEND_NODE_BASE: path in the older snapshot */
	struct send_node *parent, *child;
	struct send_node *next, *prev; /* siblings */
	struct send_node *hash_next;
	size_t name_len;
	char name[];
};

struct send_tree {
	struct send_node *root;
	struct send_node **bucket;
	size_t buckets, n;
	size_t bytes; /* of all nodes */
};

struct send_tree *send_tree_new(void); /* with its root, the older one's */
void send_tree_free(struct send_tree *t);

/* A node by itself; `base` counts for SEND_NODE_BASE only. Gives. */
struct send_node *send_tree_node(
    enum send_node_kind kind, struct span name, const char *base);
void send_tree_node_free(struct send_node *n);

/* NULL where that folder has no node of that name. */
struct send_node *send_tree_find(const struct send_tree *t,
    const struct send_node *parent, struct span name);
/* Hang a node (keeps) into a folder that has none of its name. */
void send_tree_attach(
    struct send_tree *t, struct send_node *parent, struct send_node *n);
/* Out of its folder, with all that is below it; gives. */
void send_tree_detach(struct send_tree *t, struct send_node *n);
/* Detach and free what is below; and itself. */
void send_tree_free_below(struct send_tree *t, struct send_node *top);
void send_tree_drop(struct send_tree *t, struct send_node *n);

#endif
