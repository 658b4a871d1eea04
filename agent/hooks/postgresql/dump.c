/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/verbs.h"

#include <errno.h>

#include "agent/core/mem.h"
#include "agent/hooks/postgresql/boot.h"

static int
run_dump(const struct boot *b, const struct copy *c, const struct serve *s,
    struct err *e)
{
	const char *name = s->database ? "pg_dump" : "pg_dumpall";
	SCOPED_FREE char *tool = copy_tool(c, name);
	SCOPED_FREE char *file = mem_printf("--file=%s", s->output);
	SCOPED_FREE char *db =
	    mem_printf("--dbname=%s", s->database ? s->database : "");
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *one[] = {tool, "-h", b->dir, "-p", "5432", "-U",
	    c->superuser, file, "--format=custom", db, NULL};
	const char *all[] = {tool, "-h", b->dir, "-p", "5432", "-U",
	    c->superuser, file, "--database=template1", NULL};
	int status, rc;

	if (tool == NULL)
		return err_set(e, -ENOENT, "no %s in %s", name, c->bindir);
	rc = serve_tool(&p, s->database ? one : all, &status, e);
	if (rc < 0)
		return rc;
	if (status != 0)
		return err_set(e, -EIO, "%s: %s", name, process_complaint(&p));
	return 0;
}

/* One database as pg_restore takes it, or the whole cluster as SQL. */
int
dump_clone(const struct serve *s, struct err *e)
{
	SCOPED_COPY struct copy c = {0};
	SCOPED_BOOT struct boot b = BOOT_NONE;

	if (copy_open(&c, s, e) < 0 || copy_prepare(&c, s, e) < 0 ||
	    boot_start(&b, &c, s, e) < 0)
		return e->code;
	if (run_dump(&b, &c, s, e) < 0)
		return e->code;
	/* The dump is whole; the copy may stop as it likes. */
	return 0;
}
