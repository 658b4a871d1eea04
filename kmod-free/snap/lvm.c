/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/lvm.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/core/process.h"

/* A command waits for the lock of its volume group, which another may hold for
 * as long as a mirror's conversion takes. */
#define PATIENCE_MS 600000
#define ARGS_MAX 32
#define SAID_MS 5000
#define UUID_RAW 32 /* in device-mapper's names: without the dashes */

static const char fields[] =
    "vg_name,lv_name,vg_uuid,lv_uuid,segtype,lv_attr,lv_size,origin,"
    "origin_uuid,pool_lv,thin_id,lv_kernel_major,lv_kernel_minor,"
    "data_percent,metadata_percent,metadata_lv_uuid,lv_health_status,vg_free";

/* ---- running it ---------------------------------------------------------- */

static char *
find_command(const char *command)
{
	static const char *const where[] = {
	    "/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"};

	for (size_t i = 0; i < MEM_COUNT(where); i++) {
		char *path = fs_join(where[i], command);

		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* Left to itself: its own process group goes on, and init reaps it. */
static int
leave_alone(struct process *p, const char *command, struct err *e)
{
	int pid = (int)p->pid;

	p->pid = -1;
	return err_set(e, -ETIMEDOUT,
	    "%s (process %d) still runs after %d s and is left to finish: it "
	    "must not be killed; see what it waits for",
	    command, pid, PATIENCE_MS / 1000);
}

static int
run(struct process *p, const char *command, const char *const *args,
    struct err *e)
{
	/* Numbers with a point, messages that can be looked up, and no word
	 * about our open files. */
	static const char *const env[] = {
	    "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1", NULL};
	SCOPED_FREE char *path = find_command(command);
	const char *argv[ARGS_MAX + 2] = {path};
	struct process_how how = {.argv = argv,
	    .env_add = env,
	    .uid = (uid_t)-1,
	    .gid = (gid_t)-1,
	    .outlives_us = true};
	int status, rc;
	size_t n = 1;

	if (path == NULL)
		return err_set(e, -EOPNOTSUPP,
		    "there is no %s on this host (Debian: apt-get install "
		    "lvm2)",
		    command);
	for (; *args != NULL; args++) {
		assert(n <= ARGS_MAX);
		argv[n++] = *args;
	}
	argv[n] = NULL;
	rc = process_start(p, &how, e);
	if (rc < 0)
		return rc;
	process_close_stdin(p);
	rc = process_wait(p, clock_mono_ms() + PATIENCE_MS, &status, e);
	if (rc == -ETIMEDOUT)
		return leave_alone(p, command, e);
	if (rc < 0)
		return rc;
	if (status != 0)
		return err_set(e, -EIO, "%s ended with status %d: %s", command,
		    status, process_complaint(p));
	return 0;
}

int
lvm_run(const char *command, const char *const *args, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;

	lvm_forget();
	return run(&p, command, args, e);
}

/* The rows of lvs' report; gives the document, lends the rows. */
static int
report(const char *const *args, json_t **doc, json_t **rows, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_JSON json_t *j = NULL;
	int rc = run(&p, "lvs", args, e);

	if (rc < 0)
		return rc;
	j = jdoc_parse(buf_span(&p.stdout_text), e);
	if (j == NULL)
		return err_wrap(e, "what lvs reports");
	*rows = json_object_get(
	    json_array_get(json_object_get(j, "report"), 0), "lv");
	if (!json_is_array(*rows))
		return err_set(e, -EBADMSG,
		    "what lvs reports has no \"report\" of \"lv\"");
	*doc = TAKE(j);
	return 0;
}

/* ---- one volume ----------------------------------------------------------- */

void
lvm_lv_fini(struct lvm_lv *l)
{
	free(l->vg);
	free(l->name);
	free(l->segtype);
	free(l->attr);
	free(l->origin);
	free(l->pool);
	free(l->health);
	*l = (struct lvm_lv){0};
}

static int
number(const json_t *row, const char *key, int64_t absent, int64_t *out,
    struct err *e)
{
	const char *text = jdoc_str(row, key, "");
	char *end;

	*out = absent;
	if (text[0] == '\0')
		return 0;
	errno = 0;
	*out = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0')
		return err_set(
		    e, -EBADMSG, "lvs: %s is no number: \"%s\"", key, text);
	return 0;
}

static double
percent(const json_t *row, const char *key)
{
	const char *text = jdoc_str(row, key, "");

	return text[0] == '\0' ? -1 : strtod(text, NULL);
}

/* Hidden volumes are in brackets. */
static char *
plain_name(const char *name)
{
	size_t n = strlen(name);

	if (n > 2 && name[0] == '[' && name[n - 1] == ']')
		return mem_strn(name + 1, n - 2);
	return mem_str(name);
}

static void
copy_uuid(char out[LVM_UUID_MAX], const json_t *row, const char *key)
{
	snprintf(out, LVM_UUID_MAX, "%s", jdoc_str(row, key, ""));
}

static int
take_row(struct lvm_lv *l, const json_t *row, struct err *e)
{
	int64_t size, major, minor;
	int rc = number(row, "lv_size", -1, &size, e);

	if (rc == 0)
		rc = number(row, "thin_id", -1, &l->thin_id, e);
	if (rc == 0)
		rc = number(row, "lv_kernel_major", -1, &major, e);
	if (rc == 0)
		rc = number(row, "lv_kernel_minor", -1, &minor, e);
	if (rc < 0)
		return rc;
	copy_uuid(l->uuid, row, "lv_uuid");
	copy_uuid(l->vg_uuid, row, "vg_uuid");
	copy_uuid(l->origin_uuid, row, "origin_uuid");
	copy_uuid(l->metadata_uuid, row, "metadata_lv_uuid");
	if (size < 0 || l->uuid[0] == '\0' || l->vg_uuid[0] == '\0')
		return err_set(e, -EBADMSG,
		    "lvs: a volume without size or UUID: %s",
		    jdoc_str(row, "lv_name", "?"));
	l->size = (uint64_t)size;
	l->dev = major < 0 || minor < 0
		     ? 0
		     : makedev((unsigned)major, (unsigned)minor);
	l->vg = mem_str(jdoc_str(row, "vg_name", ""));
	l->name = plain_name(jdoc_str(row, "lv_name", ""));
	l->segtype = mem_str(jdoc_str(row, "segtype", ""));
	l->attr = mem_str(jdoc_str(row, "lv_attr", ""));
	l->origin = plain_name(jdoc_str(row, "origin", ""));
	l->pool = plain_name(jdoc_str(row, "pool_lv", ""));
	l->health = mem_str(jdoc_str(row, "lv_health_status", ""));
	l->data_percent = percent(row, "data_percent");
	l->metadata_percent = percent(row, "metadata_percent");
	return 0;
}

/* ---- all volumes ----------------------------------------------------------- */

/* What lvs said last. */
static struct {
	json_t *doc;
	json_t *rows; /* of it */
	int64_t at_ms;
} said;

void
lvm_forget(void)
{
	json_decref(said.doc);
	said.doc = said.rows = NULL;
}

/* Gives the document, lends the rows. */
static int
volumes(json_t **doc, json_t **rows, struct err *e)
{
	static const char *const args[] = {"--reportformat", "json", "--all",
	    "--units", "b", "--nosuffix", "--options", fields, NULL};
	int rc;

	if (said.doc != NULL && clock_mono_ms() - said.at_ms > SAID_MS)
		lvm_forget();
	if (said.doc == NULL) {
		rc = report(args, &said.doc, &said.rows, e);
		if (rc < 0)
			return rc;
		said.at_ms = clock_mono_ms();
	}
	*doc = json_incref(said.doc);
	*rows = said.rows;
	return 0;
}

static bool
row_has(const json_t *row, const char *key, const char *value)
{
	SCOPED_FREE char *has = plain_name(jdoc_str(row, key, ""));

	return strcmp(has, value) == 0;
}

static int
find(const char *vg_uuid, const char *key, const char *value,
    struct lvm_lv *out, struct err *e)
{
	SCOPED_JSON json_t *doc = NULL;
	json_t *rows, *row;
	size_t i;
	int rc = volumes(&doc, &rows, e);

	if (rc < 0)
		return rc;
	/* A volume of several segments has a row for each. */
	json_array_foreach (rows, i, row)
		if (row_has(row, "vg_uuid", vg_uuid) &&
		    row_has(row, key, value))
			return take_row(out, row, e);
	return err_set(e, -ENOENT, "lvm has no volume of %s %s", key, value);
}

int
lvm_by_name(
    const char *vg_uuid, const char *name, struct lvm_lv *out, struct err *e)
{
	return find(vg_uuid, "lv_name", name, out, e);
}

int
lvm_by_uuid(
    const char *vg_uuid, const char *uuid, struct lvm_lv *out, struct err *e)
{
	return find(vg_uuid, "lv_uuid", uuid, out, e);
}

int
lvm_each_of(
    const struct lvm_lv *origin, lvm_lv_fn *fn, void *arg, struct err *e)
{
	SCOPED_JSON json_t *doc = NULL;
	json_t *rows, *row;
	size_t i;
	int rc = volumes(&doc, &rows, e);

	if (rc < 0)
		return rc;
	json_array_foreach (rows, i, row) {
		SCOPED_LVM_LV struct lvm_lv l = {0};

		if (!row_has(row, "vg_uuid", origin->vg_uuid) ||
		    !row_has(row, "origin_uuid", origin->uuid))
			continue;
		rc = take_row(&l, row, e);
		if (rc == 0)
			rc = fn(arg, &l, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- from a device --------------------------------------------------------- */

/* lvm's dashes, at 6-4-4-4-4-4-6, into the 32 characters without. */
static void
with_dashes(char out[LVM_UUID_MAX], const char *raw)
{
	static const unsigned char part[] = {6, 4, 4, 4, 4, 4, 6};
	size_t at = 0;

	for (size_t i = 0; i < MEM_COUNT(part); i++) {
		if (i > 0)
			out[at++] = '-';
		memcpy(out + at, raw, part[i]);
		at += part[i];
		raw += part[i];
	}
	out[at] = '\0';
}

/* "LVM-" and the UUIDs of group and volume; behind them, for the layers that
 * a volume is made of, "-real", "-cow" and the like, which are not it. */
static bool
is_volume(const char *dm_uuid)
{
	size_t n = strcspn(dm_uuid, "\n");

	if (strncmp(dm_uuid, "LVM-", 4) != 0 || n != 4 + 2 * UUID_RAW)
		return false;
	for (size_t i = 4; i < n; i++)
		if (!isalnum((unsigned char)dm_uuid[i]))
			return false;
	return true;
}

int
lvm_of_device(dev_t dev, struct lvm_lv *out, struct err *e)
{
	SCOPED_FREE char *path =
	    mem_printf("/sys/dev/block/%u:%u/dm/uuid", major(dev), minor(dev));
	SCOPED_BUF struct buf b = {0};
	char vg_uuid[LVM_UUID_MAX], uuid[LVM_UUID_MAX];
	int rc = fs_read_at(AT_FDCWD, path, 4096, &b, e);

	if (rc == -ENOENT)
		return err_set(e, -EOPNOTSUPP,
		    "device %u:%u is not a logical volume", major(dev),
		    minor(dev));
	if (rc < 0)
		return rc;
	buf_put_u8(&b, 0);
	if (!is_volume((char *)b.data))
		return err_set(e, -EOPNOTSUPP,
		    "device %u:%u is made by device-mapper, but it is not a "
		    "logical volume (encryption or multipath lies above it)",
		    major(dev), minor(dev));
	with_dashes(vg_uuid, (char *)b.data + 4);
	with_dashes(uuid, (char *)b.data + 4 + UUID_RAW);
	return lvm_by_uuid(vg_uuid, uuid, out, e);
}

/* "LVM-", the UUIDs of group and volume without their dashes, "-LAYER". */
char *
lvm_dm_uuid(const struct lvm_lv *l, const char *layer)
{
	char text[2 * LVM_UUID_MAX];
	size_t n = 0;

	for (const char *c = l->vg_uuid; *c != '\0'; c++)
		if (*c != '-')
			text[n++] = *c;
	for (const char *c = l->uuid; *c != '\0'; c++)
		if (*c != '-')
			text[n++] = *c;
	text[n] = '\0';
	return layer != NULL ? mem_printf("LVM-%s-%s", text, layer)
			     : mem_printf("LVM-%s", text);
}

int
lvm_vg_free(const char *vg_uuid, uint64_t *bytes, struct err *e)
{
	SCOPED_JSON json_t *doc = NULL;
	json_t *rows, *row;
	int64_t n = -1;
	size_t i;
	int rc = volumes(&doc, &rows, e);

	if (rc < 0)
		return rc;
	/* The group is said with each of its volumes. */
	json_array_foreach (rows, i, row)
		if (rc == 0 && n < 0 && row_has(row, "vg_uuid", vg_uuid))
			rc = number(row, "vg_free", -1, &n, e);
	if (rc < 0)
		return rc;
	if (n < 0)
		return err_set(
		    e, -EBADMSG, "lvs says no vg_free of group %s", vg_uuid);
	*bytes = (uint64_t)n;
	return 0;
}
