/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/repo.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The length of "scheme" in "scheme://…"; 0: none, the URL is a path. */
static size_t
scheme_len(const char *url)
{
	size_t n = 0;

	while (islower((unsigned char)url[n]) || isdigit((unsigned char)url[n]))
		n++;
	return strncmp(url + n, "://", 3) == 0 ? n : 0;
}

static int
no_driver(const char *url, int scheme, struct err *e)
{
	char known[128] = "";
	size_t n = 0;

	for (size_t i = 0; repo_all[i] != NULL && n < sizeof known; i++)
		n += (size_t)snprintf(
		    known + n, sizeof known - n, " %s://", repo_all[i]->scheme);
	return err_set(e, -EINVAL,
	    "repository %s: no driver for %.*s://; there are:%s", url, scheme,
	    url, known);
}

int
repo_open(struct repo **out, const char *url, bool create, struct err *e)
{
	size_t n = scheme_len(url);

	if (url[0] == '\0')
		return err_set(e, -EINVAL, "the repository's URL is empty");
	for (size_t i = 0; repo_all[i] != NULL; i++) {
		const struct repo_ops *ops = repo_all[i];

		if (n == 0 ? i > 0
			   : strlen(ops->scheme) != n ||
				 strncmp(ops->scheme, url, n) != 0)
			continue;
		if (ops->open(out, url, create, e) < 0)
			return err_wrap(e, "repository %s", url);
		assert((*out)->ops == ops && (*out)->url != NULL);
		return 0;
	}
	return no_driver(url, (int)n, e);
}

void
repo_close(struct repo *r)
{
	if (r != NULL)
		r->ops->close(r);
}

static bool
plain_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

/*
 * Names come from records and ids read from a repository too: one that leaves
 * it, or is a hidden or temporary file, is refused here for every driver.
 */
static int
check_name(const struct repo *r, const char *name, struct err *e)
{
	size_t len = strlen(name);
	bool starts = true, ok = len > 0 && len <= REPO_NAME_MAX;

	for (size_t i = 0; ok && i < len; i++) {
		if (name[i] == '/')
			ok = !starts;
		else
			ok = plain_byte(name[i]) && !(starts && name[i] == '.');
		starts = name[i] == '/';
	}
	if (ok && !starts)
		return 0;
	return err_set(e, -EINVAL, "repository %s: \"%.300s\" cannot be a name",
	    r->url, name);
}

static int
with_name(const struct repo *r, const char *name, int rc, struct err *e)
{
	return rc < 0 ? err_wrap(e, "repository %s: %s", r->url, name) : rc;
}

int
repo_put_begin(struct repo *r, struct repo_put **out, struct err *e)
{
	int rc = r->ops->put_begin(r, out, e);

	if (rc < 0)
		return with_name(r, "begin a file", rc, e);
	assert((*out)->repo == r);
	return 0;
}

int
repo_put_write(struct repo_put *p, struct span bytes, struct err *e)
{
	struct repo *r = p->repo;

	if (bytes.len == 0)
		return 0;
	return with_name(
	    r, "add to a new file", r->ops->put_write(p, bytes, e), e);
}

int
repo_put_commit(struct repo_put *p, const char *name, struct err *e)
{
	struct repo *r = p->repo;

	if (check_name(r, name, e) < 0) {
		r->ops->put_abort(p);
		return e->code;
	}
	return with_name(r, name, r->ops->put_commit(p, name, e), e);
}

void
repo_put_abort(struct repo_put *p)
{
	if (p != NULL)
		p->repo->ops->put_abort(p);
}

int
repo_put_whole(
    struct repo *r, const char *name, struct span body, struct err *e)
{
	struct repo_put *p;
	int rc = repo_put_begin(r, &p, e);

	if (rc < 0)
		return rc;
	rc = repo_put_write(p, body, e);
	if (rc < 0) {
		repo_put_abort(p);
		return rc;
	}
	return repo_put_commit(p, name, e);
}

int
repo_get(struct repo *r, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	if (check_name(r, name, e) < 0)
		return e->code;
	if (off > INT64_MAX || len > INT64_MAX - off)
		return err_set(e, -EBADMSG,
		    "repository %s: %s: %zu bytes at %llu: no file is so long",
		    r->url, name, len, (unsigned long long)off);
	if (len == 0)
		return 0;
	return with_name(r, name, r->ops->get(r, name, off, to, len, e), e);
}

int
repo_get_whole(struct repo *r, const char *name, size_t max, struct buf *out,
    struct err *e)
{
	uint64_t len;
	int rc = repo_size(r, name, &len, e);

	if (rc < 0)
		return rc;
	if (len > max)
		return err_set(e, -EFBIG,
		    "repository %s: %s: %llu bytes, it may have %zu", r->url,
		    name, (unsigned long long)len, max);
	if (len == 0)
		return 0;
	rc = repo_get(r, name, 0, buf_room(out, (size_t)len), (size_t)len, e);
	if (rc == 0)
		out->len += (size_t)len;
	return rc;
}

int
repo_size(struct repo *r, const char *name, uint64_t *len, struct err *e)
{
	if (check_name(r, name, e) < 0)
		return e->code;
	return with_name(r, name, r->ops->size(r, name, len, e), e);
}

struct listing {
	repo_list_fn *fn;
	void *arg;
	int stopped; /* the callback's own result; it is not ours to wrap */
};

static int
list_one(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct listing *l = arg;

	l->stopped = l->fn(l->arg, name, len, e);
	return l->stopped;
}

typedef int list_op(struct repo *r, const char *prefix, repo_list_fn *fn,
    void *arg, struct err *e);

static int
list(struct repo *r, list_op *op, const char *prefix, repo_list_fn *fn,
    void *arg, struct err *e)
{
	struct listing l = {fn, arg, 0};
	int rc;

	if (prefix[0] != '\0' && check_name(r, prefix, e) < 0)
		return e->code;
	rc = op(r, prefix, list_one, &l, e);
	if (rc < 0 && l.stopped == 0)
		return with_name(r, prefix[0] != '\0' ? prefix : "list", rc, e);
	return rc;
}

int
repo_list(struct repo *r, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e)
{
	return list(r, r->ops->list, prefix, fn, arg, e);
}

int
repo_list_names(struct repo *r, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e)
{
	list_op *op = r->ops->list_names ? r->ops->list_names : r->ops->list;

	return list(r, op, prefix, fn, arg, e);
}

int
repo_remove(struct repo *r, const char *name, struct err *e)
{
	if (check_name(r, name, e) < 0)
		return e->code;
	return with_name(r, name, r->ops->remove(r, name, e), e);
}

int
repo_sync(struct repo *r, struct err *e)
{
	return with_name(r, "sync", r->ops->sync(r, e), e);
}
