/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/mounts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

#define MOUNTINFO "/proc/self/mountinfo"
#define MOUNTINFO_MAX (64u << 20)

/* Space, tab, newline and backslash come as \040 and the like: undo that. */
static void
unescape(char *s)
{
	char *to = s;

	while (*s != '\0') {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' &&
		    s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				       (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
 * (Documentation/filesystems/proc.rst, 3.5): the optional fields end at "-". */
static int
parse_line(char *line, struct mounts_row *r)
{
	char *save, *word, *number = NULL;
	char *field[5] = {0};
	char *tail[3] = {0};

	for (int i = 0; i < 5; i++)
		field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
	if (field[4] == NULL)
		return -1;
	do
		word = strtok_r(NULL, " ", &save);
	while (word != NULL && strcmp(word, "-") != 0);
	for (int i = 0; word != NULL && i < 3; i++)
		tail[i] = strtok_r(NULL, " ", &save);
	/* A source may be empty; then the options take its place. */
	if (tail[1] == NULL)
		return -1;
	if (tail[2] == NULL) {
		tail[2] = tail[1];
		tail[1] = field[0] + strlen(field[0]);
	}
	r->id = strtoull(field[0], &number, 10);
	if (*number != '\0')
		return -1;
	r->parent = strtoull(field[1], &number, 10);
	if (*number != '\0')
		return -1;
	r->dev = field[2];
	unescape(field[3]);
	unescape(field[4]);
	unescape(tail[1]);
	r->root = field[3];
	r->point = field[4];
	r->type = tail[0];
	r->source = tail[1];
	r->super = tail[2];
	return 0;
}

int
mounts_parse(struct mounts *m, char *text, struct err *e)
{
	char *save;

	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		struct mounts_row r;

		if (parse_line(line, &r) < 0)
			return err_set(e, -EBADMSG,
			    MOUNTINFO ": line %zu is not understood", m->n + 1);
		MEM_ROOM(m->v, m->n, m->cap);
		m->v[m->n++] = r;
	}
	return 0;
}

int
mounts_load(struct mounts *m, struct err *e)
{
	int rc;

	assert(m->text.len == 0 && m->n == 0);
	rc = fs_read_at(AT_FDCWD, MOUNTINFO, MOUNTINFO_MAX, &m->text, e);
	if (rc < 0)
		return rc;
	buf_put_u8(&m->text, 0);
	return mounts_parse(m, (char *)m->text.data, e);
}

void
mounts_fini(struct mounts *m)
{
	buf_free(&m->text);
	free(m->v);
	*m = (struct mounts){0};
}

const struct mounts_row *
mounts_by_id(const struct mounts *m, uint64_t id)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].id == id)
			return &m->v[i];
	return NULL;
}

bool
mounts_row_read_only(const struct mounts_row *r)
{
	return strcmp(r->super, "ro") == 0 || strncmp(r->super, "ro,", 3) == 0;
}

int
mounts_place(const char *path, struct mounts_place *out, struct err *e)
{
	struct statx sx;

	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW,
		STATX_BASIC_STATS | STATX_MNT_ID, &sx) < 0)
		return err_sys(e, errno, "look up %s", path);
	/* Without the id (kernels before 5.8) a bind mount would look like
	 * the folder that it hides. */
	if ((sx.stx_mask & STATX_MNT_ID) == 0)
		return err_set(e, -EOPNOTSUPP,
		    "look up %s: this kernel does not tell mounts apart "
		    "(Linux 5.8 does)",
		    path);
	*out = (struct mounts_place){
	    .dev = makedev(sx.stx_dev_major, sx.stx_dev_minor),
	    .mount = sx.stx_mnt_id,
	    .mode = sx.stx_mode,
	};
	return 0;
}

bool
mounts_same(const struct mounts_place *a, const struct mounts_place *b)
{
	return a->dev == b->dev && a->mount == b->mount;
}

/* The folder above an absolute path other than "/"; gives. */
static char *
above(const char *path)
{
	const char *slash = strrchr(path, '/');

	assert(slash != NULL && path[1] != '\0');
	return mem_strn(path, slash == path ? 1 : (size_t)(slash - path));
}

int
mounts_folder(
    const char *path, char **dir, struct mounts_place *out, struct err *e)
{
	struct mounts_place p, file;
	SCOPED_FREE char *d = NULL;
	int rc;

	assert(path[0] == '/');
	rc = mounts_place(path, &p, e);
	if (rc < 0)
		return rc;
	if (S_ISDIR(p.mode)) {
		*dir = mem_str(path);
		*out = p;
		return 0;
	}
	file = p;
	d = above(path);
	rc = mounts_place(d, &p, e);
	if (rc < 0)
		return rc;
	if (!mounts_same(&p, &file))
		return err_set(e, -EOPNOTSUPP,
		    "%s is a mount of a single file, not part of the folder "
		    "in which it appears",
		    path);
	*dir = TAKE(d);
	*out = p;
	return 0;
}

int
mounts_top(const char *dir, char **top, struct err *e)
{
	SCOPED_FREE char *at = mem_str(dir);
	struct mounts_place here, up;
	int rc = mounts_place(at, &here, e);

	if (rc < 0)
		return rc;
	while (at[1] != '\0') {
		SCOPED_FREE char *parent = above(at);
		char *old = at;

		rc = mounts_place(parent, &up, e);
		if (rc < 0)
			return rc;
		if (!mounts_same(&here, &up))
			break;
		at = TAKE(parent);
		free(old);
	}
	*top = TAKE(at);
	return 0;
}

int
mounts_locate(const char *root, const char *path, char **rel, struct err *e)
{
	struct mounts_place top, p;
	const char *at;
	int rc = mounts_place(root, &top, e);

	if (rc == 0)
		rc = mounts_place(path, &p, e);
	if (rc < 0)
		return rc;
	if (!mounts_same(&top, &p) || !fs_below(path, root)) {
		SCOPED_FREE char *what = mounts_describe(path);

		return err_set(e, -EXDEV,
		    "%s lies on %s, not on the volume at %s", path, what, root);
	}
	at = path + (root[1] == '\0' ? 1 : strlen(root));
	*rel = mem_str(*at == '/' ? at + 1 : at);
	return 0;
}

int
mounts_below(const char *top, int (*fn)(void *arg, const char *point),
    void *arg, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	int rc = mounts_load(&m, e);

	for (size_t i = 0; rc == 0 && i < m.n; i++)
		if (strcmp(m.v[i].point, top) != 0 &&
		    fs_below(m.v[i].point, top))
			rc = fn(arg, m.v[i].point);
	return rc;
}

char *
mounts_describe(const char *path)
{
	SCOPED_MOUNTS struct mounts m = {0};
	const struct mounts_row *r = NULL;
	struct mounts_place p;
	struct err e = ERR_NONE;

	if (mounts_place(path, &p, &e) == 0 && mounts_load(&m, &e) == 0)
		r = mounts_by_id(&m, p.mount);
	if (r == NULL)
		return mem_str("a file system that cannot be told");
	return mem_printf("%s (%s at %s)", r->type, r->source, r->point);
}
