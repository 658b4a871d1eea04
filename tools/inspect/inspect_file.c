/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file open for inspection, and as a repository that holds only it: so the
 * library's own readers look at it, wherever it lies and whatever it is called.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/neap_json.h"
#include "tools/inspect/inspect.h"

struct file_repo {
	struct repo base;
	const struct inspect *in;
};

static int
file_get(struct repo *r, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	const struct inspect *in = ((struct file_repo *)r)->in;

	(void)name;
	if (off > in->len || len > in->len - off)
		return err_set(e, -EBADMSG,
		    "%zu bytes at %llu: the file has only %llu", len,
		    (unsigned long long)off, (unsigned long long)in->len);
	return fs_pread(in->fd, to, len, off, e);
}

static int
file_size(struct repo *r, const char *name, uint64_t *len, struct err *e)
{
	(void)name;
	(void)e;
	*len = ((struct file_repo *)r)->in->len;
	return 0;
}

static void
file_close(struct repo *r)
{
	free(r->url);
	free(r);
}

/* Nothing here writes or lists, so there is nothing to write or list with. */
static const struct repo_ops file_ops = {
    .scheme = "file",
    .summary = "one file, to be looked at",
    .close = file_close,
    .get = file_get,
    .size = file_size,
};

int
inspect_open(struct inspect *in, const char *path, struct err *e)
{
	struct file_repo *r;
	struct stat st;
	size_t n;

	in->path = path;
	in->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (in->fd < 0 || fstat(in->fd, &st) < 0)
		return err_sys(e, errno, "open");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "not a regular file");
	in->len = (uint64_t)st.st_size;
	n = in->len < INSPECT_HEAD ? (size_t)in->len : INSPECT_HEAD;
	memset(in->head, 0, sizeof in->head);
	if (fs_pread(in->fd, in->head, n, 0, e) < 0)
		return e->code;
	r = mem_new(sizeof *r);
	r->base.ops = &file_ops;
	r->base.url = mem_str(path);
	r->in = in;
	in->repo = &r->base;
	return 0;
}

void
inspect_close(struct inspect *in)
{
	repo_close(in->repo);
	if (in->fd >= 0)
		close(in->fd);
	explicit_bzero(in->head, sizeof in->head); /* may be of a key file */
	in->repo = NULL;
	in->fd = -1;
}

char *
inspect_tail(const struct inspect *in, unsigned n)
{
	struct err ignored = ERR_NONE;
	SCOPED_FREE char *real = fs_real(in->path, &ignored);
	char *at = real != NULL ? real + strlen(real) : NULL;

	for (; at != NULL && at > real && n > 0; n--)
		do
			at--;
		while (at > real && *at != '/');
	return at != NULL && n == 0 ? mem_str(at + 1) : NULL;
}

/* The neap.json of the repository that the file lies in: it is in one of the
 * four folders above. Gives, or NULL. */
static json_t *
repository_of(const struct inspect *in)
{
	struct err ignored = ERR_NONE;
	SCOPED_FREE char *dir = fs_real(in->path, &ignored);

	for (int i = 0; dir != NULL && i < 4; i++) {
		char *slash = strrchr(dir, '/');
		SCOPED_FREE char *path = NULL;
		SCOPED_BUF struct buf text = {0};

		*slash = '\0';
		path = mem_printf("%s/%s", dir, NEAP_JSON_NAME);
		if (fs_read_at(AT_FDCWD, path, 1u << 20, &text, &ignored) == 0)
			return jdoc_parse(buf_span(&text), &ignored);
		if (slash == dir)
			break;
	}
	return NULL;
}

int
inspect_keys(
    struct inspect *in, bool encrypted, struct keys *out, struct err *e)
{
	SCOPED_JSON json_t *o = NULL;
	uint8_t stored[16], mine[16];
	struct err ignored = ERR_NONE;

	if (!encrypted) {
		*out = (struct keys){0};
		return 0;
	}
	if (in->key == NULL)
		return err_set(e, -EKEYREJECTED,
		    "it is encrypted and only its outside was looked at: give "
		    "--key FILE to look inside");
	o = repository_of(in);
	if (o != NULL && neap_json_hex(o, "key_check", stored, sizeof stored,
			     &ignored) == 0) {
		if (keys_check_value(in->key, mine, e) < 0)
			return e->code;
		if (memcmp(stored, mine, sizeof mine) != 0)
			return err_set(e, -EKEYREJECTED,
			    "the key is another repository's: only the "
			    "outside was looked at");
	}
	*out = *in->key;
	return 0;
}

int
inspect_check_name(struct inspect *in, const uint8_t id[16], struct err *e)
{
	const char *slash = strrchr(in->path, '/');
	const char *name = slash != NULL ? slash + 1 : in->path;
	uint8_t named[16];

	/* A copy under another name is as good. */
	if (bytes_unhex(named, sizeof named, name) < 0 ||
	    memcmp(named, id, sizeof named) == 0)
		return 0;
	return err_set(
	    e, -EBADMSG, "offset 16: the id in its header is not its name");
}
