/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/plan_ask.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/tree_image.h"
#include "kmod-free/snap/freeze.h"

static void __attribute__((format(printf, 2, 3)))
refuse(struct plan *p, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	p->refusal = mem_grow(p->refusal, p->refusals + 1, sizeof *p->refusal);
	p->refusal[p->refusals++] = mem_str(text);
}

static void
path_fini(struct plan_path *pp)
{
	free(pp->path);
	free(pp->role);
	free(pp->rel);
}

static bool
role_is(const struct plan_path *pp, const char *role)
{
	return strcmp(pp->role, role) == 0;
}

/* ---- paths → volumes --------------------------------------------------- */

/* Resolved; a file that may be absent is resolved by its folder. Gives. */
static char *
resolve(const char *path, bool optional, struct err *e)
{
	char *real = realpath(path, NULL);
	SCOPED_FREE char *dir = NULL, *real_dir = NULL;
	const char *slash = strrchr(path, '/');

	if (real != NULL)
		return real;
	if (!optional || errno != ENOENT || slash == NULL) {
		err_sys(e, errno, "resolve %s", path);
		return NULL;
	}
	dir = mem_strn(path, slash == path ? 1 : (size_t)(slash - path));
	real_dir = fs_real(dir, e);
	return real_dir ? fs_join(real_dir, slash + 1) : NULL;
}

/* The open volume that holds a path of this device (a btrfs subvolume, too, is
 * one to stat). To open one again is a mount: tens of milliseconds. */
static int
open_volume_of(const struct plan *p, const char *path, dev_t dev, bool live)
{
	for (size_t i = 0; i < p->volumes; i++) {
		const struct plan_volume *pv = &p->volume[i];
		SCOPED_FREE char *rel = NULL;
		struct err ignored = ERR_NONE;

		if (pv->dev == dev && pv->live == live &&
		    snap_locate(pv->v, path, &rel, &ignored) == 0)
			return (int)i;
	}
	return -ENOENT;
}

/* The volume of a path, opened once; its index, or an error. */
static int
volume_of(struct plan *p, const char *path, const char *driver, struct err *e)
{
	struct snap_volume *v = NULL;
	struct plan_volume *pv;
	struct stat st;
	int rc;

	if (stat(path, &st) < 0)
		return err_sys(e, errno, "stat %s", path);
	rc = open_volume_of(p, path, st.st_dev, strcmp(driver, "none") == 0);
	if (rc >= 0)
		return rc;
	rc = snap_open(&v, driver, path, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < p->volumes; i++)
		if (strcmp(p->volume[i].v->id, v->id) == 0) {
			snap_close(v);
			return (int)i;
		}
	p->volume = mem_grow(p->volume, p->volumes + 1, sizeof *p->volume);
	pv = &p->volume[p->volumes];
	*pv = (struct plan_volume){.v = v, .dev = st.st_dev};
	pv->number = (uint32_t)XXH3_64bits(v->id, strlen(v->id));
	/* The highest number is the host's folders above the volumes. */
	if (pv->number == UINT32_MAX)
		pv->number--;
	pv->live = (v->ops->caps & SNAP_ATOMIC) == 0;
	return (int)p->volumes++;
}

/* Two paths as one. Only what is all configuration is excused as such, and
 * only what is all optional may be absent. */
static void
join_paths(struct plan_path *to, const char *role, bool optional)
{
	if (role_is(to, "config") && strcmp(role, "config") != 0) {
		free(to->role);
		to->role = mem_str(role);
	}
	to->optional = to->optional && optional;
}

/* The path that holds `pp` already, or NULL. */
static struct plan_path *
covering(const struct plan *p, const struct plan_path *pp)
{
	for (size_t i = 0; i < p->paths; i++)
		if (p->path[i].volume == pp->volume &&
		    fs_below(pp->path, p->path[i].path))
			return &p->path[i];
	return NULL;
}

/* Each file is to be walked once: what lies in another path goes into that,
 * whichever the hook named first. */
static void
put_path(struct plan *p, struct plan_path pp)
{
	struct plan_path *over = covering(p, &pp);
	size_t kept = 0;

	if (over != NULL) {
		join_paths(over, pp.role, pp.optional);
		path_fini(&pp);
		return;
	}
	for (size_t i = 0; i < p->paths; i++) {
		struct plan_path *old = &p->path[i];

		if (old->volume == pp.volume && fs_below(old->path, pp.path)) {
			join_paths(&pp, old->role, old->optional);
			path_fini(old);
		} else {
			p->path[kept++] = *old;
		}
	}
	p->path = mem_grow(p->path, kept + 1, sizeof *p->path);
	p->path[kept] = pp;
	p->paths = kept + 1;
}

/* One path of the probe document. Only failures that say nothing about the
 * layout are errors; what is wrong with the layout is a refusal. */
static int
add_path(struct plan *p, const char *path, const char *role, bool optional,
    struct err *e)
{
	bool config = strcmp(role, "config") == 0;
	const char *driver = p->job->snapshot;
	SCOPED_FREE char *real = resolve(path, optional, e);
	SCOPED_FREE char *base = NULL, *rel = NULL;
	const char *absent = NULL; /* its name, where it is not there now */
	struct stat st;
	int vol, rc;

	if (real == NULL)
		return e->code;
	/* What may be absent just now is located by its folder. */
	base = mem_str(real);
	if (lstat(real, &st) < 0) {
		absent = strrchr(real, '/') + 1;
		base[absent - real > 1 ? absent - real - 1 : 1] = '\0';
	}
	vol = volume_of(p, base, driver, e);
	/* Configuration is not written by the engine: it is read as it is
	 * where it lies on a volume that cannot be snapshot. */
	if (vol < 0 && config) {
		err_clear(e);
		vol = volume_of(p, base, "none", e);
	}
	if (vol == -EOPNOTSUPP || vol == -EPERM) {
		refuse(p, "%s", e->text);
		return err_clear(e);
	}
	if (vol < 0)
		return vol;
	rc = snap_locate(p->volume[vol].v, base, &rel, e);
	if (rc < 0)
		return rc;
	if (absent != NULL) {
		char *folder = rel;

		rel = folder[0] ? fs_join(folder, absent) : mem_str(absent);
		free(folder);
	}
	put_path(p, (struct plan_path){.path = TAKE(real),
			.role = mem_str(role),
			.rel = TAKE(rel),
			.volume = (size_t)vol,
			.optional = optional});
	return 0;
}

struct gap_arg {
	struct plan *plan;
	const struct plan_path *path;
};

static int
on_gap(void *arg, const char *name)
{
	struct gap_arg *g = arg;

	refuse(g->plan,
	    "%s lies below %s but is a volume of its own (nested subvolume or "
	    "mount): a snapshot would hold it empty; make it a plain folder or "
	    "protect it with a job of its own",
	    name, g->path->path);
	return 0;
}

/*
 * Of several volumes that the engine writes to, those that can be are frozen
 * together. One that cannot be may belong to them: the instant is that of its
 * own snapshot, which is taken while the others stand.
 */
static int
judge_several(struct plan *p, const struct plan_path *first,
    const struct plan_path *other, struct err *e)
{
	SCOPED_FREE char *why = mem_str("");
	size_t alone = 0;

	for (size_t i = 0; i < p->paths; i++)
		if (!role_is(&p->path[i], "config"))
			p->volume[p->path[i].volume].several = true;
	for (size_t i = 0; i < p->volumes; i++) {
		struct plan_volume *pv = &p->volume[i];
		int rc = pv->several ? freeze_check(pv->v, e) : 0;
		char *old = why;

		pv->frozen = pv->several && rc == 0;
		if (rc == 0)
			continue;
		if (rc != -EOPNOTSUPP)
			return rc;
		why = mem_printf("%s%s%s", old, alone++ ? "; " : "", e->text);
		free(old);
		err_clear(e);
	}
	if (alone > 1)
		refuse(p,
		    "%s (%s) lies on volume %s, but %s (%s) on %s: two "
		    "snapshots are not one instant, and of the volumes only "
		    "one may be such that it cannot be frozen together with "
		    "the others, but %s; put all on one volume, or all but one "
		    "on logical volumes without the system",
		    other->path, other->role, p->volume[other->volume].v->id,
		    first->path, first->role, p->volume[first->volume].v->id,
		    why);
	return 0;
}

/* What the engine writes must be of one instant. */
static int
judge_layout(struct plan *p, struct err *e)
{
	const struct plan_path *first = NULL, *other = NULL;
	bool files = strcmp(p->job->engine, "files") == 0;

	for (size_t i = 0; i < p->paths; i++) {
		struct plan_path *pp = &p->path[i];
		struct plan_volume *pv = &p->volume[pp->volume];
		struct gap_arg g = {p, pp};
		int rc;

		if (role_is(pp, "config"))
			continue;
		if (pv->live && !files)
			refuse(p,
			    "%s would be copied while %s writes to it "
			    "(snapshot: none): put it on btrfs, or use engine "
			    "files for data at rest",
			    pp->path, p->job->engine);
		if (first == NULL)
			first = pp;
		else if (pp->volume != first->volume && !files)
			other = pp;
		rc = snap_gaps(pv->v, pp->rel, on_gap, &g, e);
		if (rc < 0)
			return rc;
	}
	if (first == NULL && p->refusals == 0)
		refuse(p, "the hook names no path to back up");
	return other != NULL ? judge_several(p, first, other, e) : 0;
}

static int
take_probe(struct plan *p, struct err *e)
{
	const json_t *list = json_object_get(p->probe, "paths");
	const json_t *item;
	size_t i;

	json_array_foreach (json_object_get(p->probe, "refuse"), i, item)
		if (json_is_string(item))
			refuse(p, "%s", json_string_value(item));
	if (!json_is_array(list))
		return err_set(e, -EIO,
		    "hook %s: its probe document has no \"paths\"", p->program);
	/* Folders first, so that what lies in them is seen as covered. */
	for (int pass = 0; pass < 2; pass++) {
		json_array_foreach (list, i, item) {
			const char *path, *role;
			bool optional = jdoc_bool(item, "optional", false);
			struct stat st;
			int rc = jdoc_get_str(item, "path", &path, e);

			if (rc == 0)
				rc = jdoc_get_str(item, "role", &role, e);
			if (rc == 0 && path[0] != '/')
				rc = err_set(e, -EBADMSG,
				    "path %s is not absolute", path);
			if (rc < 0)
				return err_wrap(
				    e, "hook %s: probe", p->program);
			if ((pass == 0) !=
			    (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
				continue;
			rc = add_path(p, path, role, optional, e);
			if (rc < 0)
				return rc;
		}
	}
	return judge_layout(p, e);
}

int
plan_make(struct plan *p, struct err *e)
{
	int rc = plan_answer(p, e);

	if (rc == 0)
		rc = take_probe(p, e);
	return rc < 0 ? err_wrap(e, "job %s", p->job->name) : 0;
}

void
plan_fini(struct plan *p)
{
	plan_hush(p);
	hook_leave(p->session);
	for (size_t i = 0; i < p->paths; i++)
		path_fini(&p->path[i]);
	for (size_t i = 0; i < p->volumes; i++)
		snap_close(p->volume[i].v);
	for (size_t i = 0; i < p->refusals; i++)
		free(p->refusal[i]);
	free(p->path);
	free(p->volume);
	free(p->refusal);
	free(p->program);
	json_decref(p->config);
	json_decref(p->probe);
	*p = (struct plan){0};
}

int
plan_check(const struct plan *p, struct err *e)
{
	SCOPED_BUF struct buf b = {0};

	if (p->refusals == 0)
		return 0;
	for (size_t i = 0; i < p->refusals; i++) {
		if (i > 0)
			buf_put(&b, "; ", 2);
		buf_put(&b, p->refusal[i], strlen(p->refusal[i]));
	}
	buf_put_u8(&b, 0);
	return err_set(
	    e, -EPERM, "job %s: refused: %s", p->job->name, (char *)b.data);
}

/* ---- saying it ---------------------------------------------------------- */

static const char *
level_of(const struct plan *p)
{
	for (size_t i = 0; i < p->paths; i++)
		if (!role_is(&p->path[i], "config") &&
		    p->volume[p->path[i].volume].live)
			return "unproven";
	return p->job->hold ? "locked" : "atomic";
}

static const char *
how_words(const struct plan_volume *pv)
{
	if (pv->live)
		return "read as it is, without a snapshot";
	if (pv->frozen)
		return "by snapshot, frozen together with the others";
	return pv->several ? "by snapshot, while the others are frozen"
			   : "by snapshot";
}

void
plan_explain(const struct plan *p, FILE *to)
{
	const json_t *note;
	size_t i;

	fprintf(to, "Job %s: %s %s\n", p->job->name,
	    jdoc_str(p->probe, "engine", p->job->engine),
	    jdoc_str(p->probe, "version", ""));
	for (i = 0; i < p->paths; i++) {
		const struct plan_path *pp = &p->path[i];
		const struct plan_volume *pv = &p->volume[pp->volume];

		fprintf(to, "  %-10s %s\n             on %s, %s%s\n", pp->role,
		    pp->path, pv->v->id, how_words(pv),
		    tree_image_is(pv->v) ? ", as one image" : "");
	}
	json_array_foreach (json_object_get(p->probe, "notes"), i, note)
		if (json_is_string(note))
			fprintf(to, "  note: %s\n", json_string_value(note));
	if (p->refusals == 0) {
		fprintf(to,
		    "It would be backed up with consistency \"%s\"%s.\n",
		    level_of(p),
		    p->job->hold ? ", holding the engine for the snapshot only"
				 : ", locking nothing");
		return;
	}
	fprintf(to, "It would be refused:\n");
	for (i = 0; i < p->refusals; i++)
		fprintf(to, "  - %s\n", p->refusal[i]);
}

json_t *
plan_paths_json(const struct plan *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->paths; i++) {
		const struct plan_path *pp = &p->path[i];

		json_array_append_new(list,
		    json_pack("{s:o, s:s, s:s, s:b}", "path",
			jdoc_new_str(pp->path), "role", pp->role, "volume",
			p->volume[pp->volume].v->id, "optional", pp->optional));
	}
	return list;
}

json_t *
plan_volumes_json(const struct plan *p, const char *snapshot)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->volumes; i++) {
		const struct plan_volume *pv = &p->volume[i];

		json_array_append_new(list,
		    json_pack("{s:s, s:s, s:s*, s:s*, s:o, s:I, s:s*, s:o*}",
			"id", pv->v->id, "provider", pv->v->ops->name,
			"fs_type", pv->v->fs_type, "fs_uuid", pv->v->fs_uuid,
			"root", jdoc_new_str(pv->v->root ? pv->v->root : ""),
			"subvolume", (json_int_t)pv->v->subvolume, "snapshot",
			pv->live ? NULL : snapshot, "image",
			tree_image_is(pv->v)
			    ? tree_image_json(pv->v, pv->unused)
			    : NULL));
	}
	return list;
}

json_t *
plan_json(const struct plan *p)
{
	json_t *refuse_list = json_array();

	for (size_t i = 0; i < p->refusals; i++)
		json_array_append_new(refuse_list, jdoc_new_str(p->refusal[i]));
	return json_pack("{s:s, s:s, s:s, s:O, s:o, s:o, s:o}", "job",
	    p->job->name, "engine", p->job->engine, "consistency", level_of(p),
	    "probe", p->probe, "paths", plan_paths_json(p), "volumes",
	    plan_volumes_json(p, NULL), "refusals", refuse_list);
}
