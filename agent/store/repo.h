/*
 * Where a repository's files lie: the one interface between the store and a
 * folder, an object store, or a driver of the tests that fails on purpose.
 *
 * A name is a relative path of plain components ("packs/3f/3f20…"). A file is
 * put once, whole, and never changed. The law of the family: once sync has
 * returned 0, every earlier put survives a power cut.
 *
 * All operations may be called from several threads at once.
 */
#ifndef NEAP_STORE_REPO_H
#define NEAP_STORE_REPO_H

#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

#define REPO_NAME_MAX 255

struct repo {
	const struct repo_ops *ops; /* first member of each implementation */
	char *url;
};

/* An object being written: bytes are appended, then it gets its name. */
struct repo_put {
	struct repo *repo;
};

typedef int repo_list_fn(
    void *arg, const char *name, uint64_t len, struct err *e);

struct repo_ops {
	const char *scheme;  /* "dir", "s3": the URL's first word */
	const char *summary; /* one line for people */

	/* required */
	int (*open)(
	    struct repo **out, const char *url, bool create, struct err *e);
	void (*close)(struct repo *r);
	int (*put_begin)(struct repo *r, struct repo_put **out, struct err *e);
	int (*put_write)(struct repo_put *p, struct span bytes, struct err *e);
	/* -EEXIST: the name is taken; nothing changed. Ends the put. */
	int (*put_commit)(struct repo_put *p, const char *name, struct err *e);
	void (*put_abort)(struct repo_put *p);
	/* Exactly `len` bytes; -ENOENT; -EBADMSG where it is shorter. */
	int (*get)(struct repo *r, const char *name, uint64_t off, void *to,
	    size_t len, struct err *e);
	int (*size)(
	    struct repo *r, const char *name, uint64_t *len, struct err *e);
	/* Every file below `prefix` (a folder), in no order. */
	int (*list)(struct repo *r, const char *prefix, repo_list_fn *fn,
	    void *arg, struct err *e);
	int (*remove)(struct repo *r, const char *name, struct err *e);
	int (*sync)(struct repo *r, struct err *e);

	/* optional: as list, with 0 for each length, where that is cheaper */
	int (*list_names)(struct repo *r, const char *prefix, repo_list_fn *fn,
	    void *arg, struct err *e);
};

/*
 * The wrappers: they check names, put the repository's URL and the name in
 * front of errors, and are the only callers of the operations. repo_open picks
 * the driver by the URL; a path without a scheme is a folder. Gives.
 */
int repo_open(struct repo **out, const char *url, bool create, struct err *e);
void repo_close(struct repo *r); /* NULL is fine */
int repo_put_begin(struct repo *r, struct repo_put **out, struct err *e);
int repo_put_write(struct repo_put *p, struct span bytes, struct err *e);
int repo_put_commit(struct repo_put *p, const char *name, struct err *e);
void repo_put_abort(struct repo_put *p); /* NULL is fine */
int repo_put_whole(
    struct repo *r, const char *name, struct span body, struct err *e);
int repo_get(struct repo *r, const char *name, uint64_t off, void *to,
    size_t len, struct err *e);
/* The whole file, -EFBIG above `max`; appended to `out`. */
int repo_get_whole(struct repo *r, const char *name, size_t max,
    struct buf *out, struct err *e);
int repo_size(struct repo *r, const char *name, uint64_t *len, struct err *e);
int repo_list(struct repo *r, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e);
/* The same for who needs no lengths: a folder need not be asked for each. */
int repo_list_names(struct repo *r, const char *prefix, repo_list_fn *fn,
    void *arg, struct err *e);
int repo_remove(struct repo *r, const char *name, struct err *e);
int repo_sync(struct repo *r, struct err *e);

extern const struct repo_ops *const repo_all[]; /* NULL-terminated */

#endif
