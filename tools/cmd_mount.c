/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/backup.h"
#include "tools/chunk_cache.h"
#include "tools/images.h"
#include "tools/mount.h"
#include "tools/mount_image.h"
#include "tools/size_option.h"
#include "tools/tool.h"

struct options {
	const char *scratch;
	size_t cache_bytes;
	bool foreground, images_only;
};

static int
read_options(struct options *o, int argc, char **argv, struct err *e)
{
	static const struct option longs[] = {
	    {"writable", required_argument, NULL, 'w'},
	    {"cache", required_argument, NULL, 'C'},
	    {"foreground", no_argument, NULL, 'f'},
	    {"images-only", no_argument, NULL, 'i'},
	    {NULL, 0, NULL, 0},
	};
	uint64_t n;
	int c;

	while ((c = tool_getopt(argc, argv, ":w:f", longs, e)) != -1) {
		switch (c) {
		case 'w':
			o->scratch = optarg;
			break;
		case 'C':
			if (size_option(&n, optarg, e) < 0)
				return err_wrap(e, "--cache");
			o->cache_bytes = (size_t)n;
			break;
		case 'f':
			o->foreground = true;
			break;
		case 'i':
			o->images_only = true;
			break;
		default:
			return e->code;
		}
	}
	return tool_args(argc, argv, 2, &tool_mount, e);
}

static int
say(struct tool *t, const char *backup, const char *dir, const char *scratch,
    struct err *e)
{
	SCOPED_JSON json_t *o = json_object();

	if (!t->json) {
		log_notice("%s is mounted on %s, %s; to end: neap-restore "
			   "unmount %s",
		    backup, dir, scratch != NULL ? "writable" : "read-only",
		    dir);
		return 0;
	}
	json_object_set_new(o, "backup", jdoc_new_str(backup));
	json_object_set_new(o, "dir", jdoc_new_str(dir));
	json_object_set_new(o, "writable", json_boolean(scratch != NULL));
	return tool_print_json(o, e);
}

static int
read_images(struct images *l, struct store *s, const struct catalog_entry *en,
    struct err *e)
{
	SCOPED_JSON json_t *record = NULL;
	int rc = catalog_get(s->repo, &s->keys, en->job, en->time, &record, e);

	return rc == 0 ? images_of(l, record, e) : rc;
}

/* Their file systems too, where that can be. */
static int
mount_images(const struct images *l, const struct options *o, const char *dir,
    struct err *e)
{
	SCOPED_FREE char *real = NULL;
	size_t with = 0;
	int n;

	for (size_t i = 0; i < l->n; i++)
		with += l->v[i].at != NULL;
	if (with == 0 || o->images_only)
		return 0;
	if (geteuid() != 0) {
		log_notice("the images are shown as files only: root can mount "
			   "what is in them");
		return 0;
	}
	real = fs_real(dir, e);
	if (real == NULL)
		return e->code;
	n = mount_image_all(l, real, o->scratch != NULL, e);
	if (n > 0 && o->scratch == NULL)
		log_notice("file systems of images are shown as they were on "
			   "the disk, their journals not replayed; --writable "
			   "replays them");
	return n < 0 ? n : 0;
}

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	SCOPED_IMAGES struct images images = {0};
	struct options o = {.cache_bytes = CHUNK_CACHE_BYTES};
	SCOPED_MOUNT struct mount m = MOUNT_NONE;
	struct catalog_entry en;
	char name[CATALOG_JOB_MAX + 24];
	struct mount_how how;
	int rc;

	rc = read_options(&o, argc, argv, e);
	if (rc >= 0)
		rc = tool_open(t, e);
	if (rc >= 0)
		rc = catalog_resolve(t->store.repo, argv[optind], &en, e);
	if (rc >= 0)
		rc = read_images(&images, &t->store, &en, e);
	if (rc < 0)
		return rc;
	snprintf(name, sizeof name, "%s/%s", en.job, en.time);
	how = (struct mount_how){.store = &t->how,
	    .backup = name,
	    .dir = argv[optind + 1],
	    .scratch = o.scratch,
	    .cache_bytes = o.cache_bytes,
	    .foreground = o.foreground};
	/* The server opens the store for itself: nothing is shared. */
	store_close(&t->store);
	if (o.foreground)
		return mount_foreground(&how, e);
	rc = mount_start(&m, &how, e);
	if (rc == 0)
		rc = mount_images(&images, &o, how.dir, e);
	if (rc < 0)
		return rc;
	mount_detach(&m);
	return say(t, name, how.dir, o.scratch, e);
}

const struct tool_command tool_mount = {
    .name = "mount",
    .usage = "mount BACKUP DIR [--writable SCRATCH]",
    .summary = "Show a backup as a file system, at once, at any size",
    .help =
	"  -w, --writable SCRATCH  let it be changed: what is written goes to "
	"this\n"
	"                          folder, new or empty, and is dropped at the "
	"end\n"
	"      --cache SIZE        decoded chunks kept in memory (64M)\n"
	"  -f, --foreground        do not go into the background\n"
	"      --images-only       show volumes' images as files, without the "
	"file\n"
	"                          systems in them (as --foreground does)\n"
	"\nThe file system in a volume's image is mounted where the host had "
	"it, or at\nneap-images/NAME. Without --writable its journal is not "
	"replayed. Needs root.\n",
    .run = run,
};
