/*
 * Inside the overlay: its nodes, shared by overlay.c (the tree as it is read),
 * overlay_change.c (names and attributes) and overlay_file.c (content).
 */
#ifndef NEAP_TOOLS_OVERLAY_PARTS_H
#define NEAP_TOOLS_OVERLAY_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "agent/store/object.h"
#include "tools/cow.h"
#include "tools/names.h"
#include "tools/overlay.h"

/* An object that was changed, or is open in a writable view. */
struct overlay_node {
	struct overlay_node *chain;
	uint64_t ino;
	struct object o; /* its size counts only while cow is NULL */
	struct timespec ctime;
	unsigned opens, writers; /* writers: the kernel may hold their pages */
	bool in_backup;          /* its content and names go on in the maps */
	bool changed;
	struct names names;        /* folders */
	_Atomic(struct cow *) cow; /* files, from the first change on */
};

struct overlay {
	struct overlay_how how;
	pthread_rwlock_t lock; /* all below, and what nodes hold */
	struct overlay_node **bucket;
	size_t buckets, nodes;
	uint64_t next_ino;
};

struct overlay_file {
	uint64_t ino, size;        /* size: of a read-only view */
	struct overlay_node *node; /* NULL in a read-only view */
	bool writes;
	struct content_stream stream;
};

/* Report and turn an error of store or scratch into an answer. */
int overlay_fail(
    struct overlay *ov, uint64_t ino, uint64_t off, const struct err *e);

struct overlay_node *overlay_find(struct overlay *ov, uint64_t ino);
/* The node of `ino`, made from the backup if need be. Write lock held. */
int overlay_node(struct overlay *ov, uint64_t ino, struct overlay_node **out);
struct overlay_node *overlay_add(struct overlay *ov, uint64_t ino);
/* Out of the table and freed. Write lock held. */
void overlay_drop(struct overlay *ov, struct overlay_node *n);

/* 1, *ino; 0: no such name. A lock held. */
int overlay_child(
    struct overlay *ov, uint64_t folder, const char *name, uint64_t *ino);
void overlay_fill(const struct overlay_node *n, struct stat *st);
void overlay_now(struct timespec *ts);
struct cow *overlay_cow(struct overlay *ov, struct overlay_node *n);
/* A node that no name leads to and nobody has open goes. Write lock held. */
void overlay_settle(struct overlay *ov, struct overlay_node *n);

#endif
