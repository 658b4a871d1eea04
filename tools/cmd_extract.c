/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "tools/extract.h"
#include "tools/tool.h"

static int
read_options(struct extract_how *how, int argc, char **argv, struct err *e)
{
	static const struct option longs[] = {
	    {"delta", no_argument, NULL, 'd'},
	    {"path", required_argument, NULL, 'p'},
	    {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = tool_getopt(argc, argv, ":p:", longs, e)) != -1) {
		switch (c) {
		case 'd':
			how->delta = true;
			break;
		case 'p':
			if (pattern_add(how->patterns, optarg, e) < 0)
				return err_wrap(e, "--path");
			break;
		default:
			return e->code;
		}
	}
	return tool_args(argc, argv, 2, &tool_extract, e);
}

static int
say(struct tool *t, const struct extract_how *how,
    const struct extract_stats *s, int64_t ms, struct err *e)
{
	SCOPED_JSON json_t *o = NULL;
	char a[32], b[32];

	if (!t->json) {
		log_notice("%s: %llu files, %s in %.1f s; %s written%s",
		    how->backup->name, (unsigned long long)s->files,
		    fs_size_text(a, s->bytes), (double)ms / 1000,
		    fs_size_text(b, s->written_bytes),
		    s->removed > 0 ? "; what the backup has not was removed"
				   : "");
		return 0;
	}
	o = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		      "s:f}",
	    "backup", jdoc_new_str(how->backup->name), "target",
	    jdoc_new_str(how->target), "files", (json_int_t)s->files, "folders",
	    (json_int_t)s->folders, "others", (json_int_t)s->others, "bytes",
	    (json_int_t)s->bytes, "written_bytes", (json_int_t)s->written_bytes,
	    "removed", (json_int_t)s->removed, "damaged_ranges",
	    (json_int_t)s->damaged, "attributes_unset", (json_int_t)s->unset,
	    "seconds", (double)ms / 1000);
	return tool_print_json(o, e);
}

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	SCOPED_PATTERNS struct pattern_list patterns = {0};
	SCOPED_BACKUP struct backup b = {0};
	struct extract_how how = {
	    .store = &t->store, .backup = &b, .patterns = &patterns};
	struct extract_stats stats = {0};
	struct err se = ERR_NONE;
	int64_t start = clock_mono_ms();
	int rc;

	rc = read_options(&how, argc, argv, e);
	if (rc >= 0)
		rc = tool_open(t, e);
	if (rc >= 0)
		rc = store_reading(&t->store, e);
	if (rc >= 0)
		rc = backup_open(&b, &t->store, argv[optind], e);
	if (rc < 0)
		return rc;
	how.target = argv[optind + 1];
	rc = extract_run(&how, &stats, e);
	if (rc < 0 && stats.damaged == 0)
		return rc;
	if (say(t, &how, &stats, clock_mono_ms() - start, &se) < 0 && rc == 0)
		return err_copy(e, &se);
	return rc;
}

const struct tool_command tool_extract = {
    .name = "extract",
    .usage = "extract BACKUP TARGET [--delta] [--path PATTERN]...",
    .summary = "Put a backup's files into a folder, or its image on a device",
    .help =
	"In a folder, files are TARGET/their/path, and volumes that were "
	"backed "
	"up as\n"
	"images TARGET/neap-images/NAME.img. Onto a block device goes the "
	"backup's only\n"
	"image; refused when the device is in use, too small, or, without "
	"--delta, not\n"
	"empty.\n\n"
	"  -p, --path PATTERN  only this path and what is below it, or what "
	"this\n"
	"                      pattern matches ('*' matches '/' too); may be "
	"repeated\n"
	"      --delta         make an existing TARGET as the backup was: "
	"write "
	"only\n"
	"                      blocks that differ, and REMOVE what the backup "
	"has\n"
	"                      not, within the backed-up paths; refused while "
	"a\n"
	"                      process has files open there\n",
    .run = run,
};
