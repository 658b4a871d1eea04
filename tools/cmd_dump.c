/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/proof.h"

#define TIMEOUT_MS (24 * 3600 * INT64_C(1000))

struct options {
	const char *output;
	struct proof_how how;
};

static int
read_options(struct options *o, int argc, char **argv, struct err *e)
{
	static const struct option longs[] = {
	    {"output", required_argument, NULL, 'o'},
	    {"database", required_argument, NULL, 'd'},
	    {"scratch", required_argument, NULL, 's'},
	    {NULL, 0, NULL, 0},
	};
	int c, rc;

	while ((c = tool_getopt(argc, argv, ":o:d:", longs, e)) != -1) {
		if (c == 'o')
			o->output = optarg;
		else if (c == 'd')
			o->how.database = optarg;
		else if (c == 's')
			o->how.scratch = optarg;
		else
			return e->code;
	}
	rc = tool_args(argc, argv, 1, &tool_dump, e);
	if (rc < 0)
		return rc;
	if (o->output == NULL)
		return err_set(
		    e, -EINVAL, "where to? name it with --output FILE");
	return 0;
}

/* A folder beside the output, so that a rename puts it in place; gives. */
static char *
folder_beside(const char *output, struct err *e)
{
	char *dir = mem_printf("%s.neap-XXXXXX", output);
	char *real;

	if (mkdtemp(dir) == NULL) {
		err_sys(e, errno, "make a folder beside %s", output);
		free(dir);
		return NULL;
	}
	/* The hook's user has to get in; nobody else is root inside. */
	real = fs_real(dir, e);
	free(dir);
	return real;
}

static int
put_in_place(const char *dir, const char *output, struct err *e)
{
	SCOPED_FREE char *whole = fs_join(dir, "dump");
	SCOPED_FREE char *up = mem_printf("%s/..", dir);
	SCOPED_FD int fd = open(whole, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "open the dump");
	if (fchown(fd, geteuid(), getegid()) < 0 || syncfs(fd) < 0)
		return err_sys(e, errno, "sync the dump");
	if (rename(whole, output) < 0)
		return err_sys(e, errno, "put the dump at %s", output);
	return fs_sync_dir_at(AT_FDCWD, up, e);
}

static int
say(struct tool *t, const struct proof_result *r, const char *output,
    struct err *e)
{
	SCOPED_JSON json_t *o = json_object();
	struct stat st;
	char a[32];

	if (stat(output, &st) < 0)
		return err_sys(e, errno, "stat %s", output);
	if (!t->json) {
		log_notice("%s: dumped to %s, %s in %.1f s", r->name, output,
		    fs_size_text(a, (uint64_t)st.st_size),
		    (double)r->total_ms / 1000);
		return 0;
	}
	json_object_set_new(o, "backup", jdoc_new_str(r->name));
	json_object_set_new(o, "output", jdoc_new_str(output));
	json_object_set_new(o, "bytes", json_integer(st.st_size));
	json_object_set_new(
	    o, "seconds", json_real((double)r->total_ms / 1000));
	return tool_print_json(o, e);
}

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	struct options o = {.how = {.timeout_ms = TIMEOUT_MS}};
	SCOPED_PROOF struct proof_result r = {.name = ""};
	SCOPED_FREE char *dir = NULL;
	struct err re = ERR_NONE;
	int rc;

	rc = read_options(&o, argc, argv, e);
	if (rc >= 0)
		rc = tool_locate(t, e);
	if (rc < 0)
		return rc;
	assert(o.output != NULL); /* read_options saw to it */
	o.how.backup = argv[optind];
	dir = folder_beside(o.output, e);
	if (dir == NULL)
		return e->code;
	o.how.out = dir;
	rc = proof_run(t, &o.how, &r, e);
	if (rc >= 0)
		rc = put_in_place(dir, o.output, e);
	if (fs_remove_tree_at(AT_FDCWD, dir, &re) < 0)
		log_warn("%s", re.text);
	if (rc < 0)
		return err_wrap(e, "dump of %s", o.how.backup);
	return say(t, &r, o.output, e);
}

const struct tool_command tool_dump = {
    .name = "dump",
    .usage = "dump BACKUP --output FILE [--database NAME]",
    .summary = "Boot a backup's engine on a throw-away copy and dump it",
    .help =
	"  -o, --output FILE    the dump; it appears there when it is whole\n"
	"  -d, --database NAME  only this one\n"
	"      --scratch DIR    where written blocks go meanwhile ($TMPDIR or "
	"/tmp)\n",
    .run = run,
};
