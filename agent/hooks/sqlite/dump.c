/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "agent/hooks/sqlite/copy.h"

/* First on the PATH; gives, or NULL. */
static char *
find_shell(void)
{
	const char *env = getenv("PATH");
	SCOPED_FREE char *path = mem_str(env ? env : "/usr/bin:/bin");
	char *save = NULL;

	for (char *d = strtok_r(path, ":", &save); d != NULL;
	     d = strtok_r(NULL, ":", &save)) {
		SCOPED_FREE char *p = mem_printf("%s/sqlite3", d);

		if (d[0] == '/' && access(p, X_OK) == 0)
			return TAKE(p);
	}
	return NULL;
}

/* The shell quotes as a string in double quotes, with backslashes. */
static char *
quote(const char *path)
{
	char *out = mem_new(2 * strlen(path) + 3), *to = out;

	*to++ = '"';
	for (; *path != '\0'; path++) {
		if (*path == '"' || *path == '\\')
			*to++ = '\\';
		*to++ = *path;
	}
	*to++ = '"';
	*to = '\0';
	return out;
}

/* The SQL text ends in COMMIT; only where an error was met in ROLLBACK. */
static int
check_end(const char *path, struct err *e)
{
	FILE *f = fopen(path, "re");
	char tail[64] = "";
	size_t n;

	if (f == NULL)
		return err_sys(e, errno, "open %s", path);
	if (fseek(f, -63, SEEK_END) < 0)
		rewind(f);
	n = fread(tail, 1, sizeof tail - 1, f);
	fclose(f);
	tail[n] = '\0';
	if (n < 8 || strcmp(tail + n - 8, "COMMIT;\n") != 0)
		return err_set(e, -EBADMSG,
		    "%s does not end in COMMIT: the "
		    "database could not be read to its end",
		    path);
	return 0;
}

int
dump_clone(const struct serve *s, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *shell = find_shell();
	SCOPED_FREE char *path = NULL, *quoted = NULL, *output = NULL;
	int status, rc;

	if (s->database != NULL)
		return err_set(e, -EINVAL,
		    "--database %s: a SQLite file is "
		    "one database",
		    s->database);
	if (copy_path(&path, s, e) < 0)
		return e->code;
	if (shell == NULL)
		return err_set(e, -ENOENT,
		    "no sqlite3 on the PATH: install "
		    "the package sqlite3 to dump");
	quoted = quote(s->output);
	output = mem_printf(".output %s", quoted);
	const char *argv[] = {shell, "-batch", "-bail", "-init", "/dev/null",
	    path, output, ".dump", NULL};

	rc = serve_tool(&p, argv, &status, e);
	if (rc < 0)
		return rc;
	if (status != 0 || p.stderr_text.len > 0)
		return err_set(
		    e, -EIO, "sqlite3 .dump: %s", process_complaint(&p));
	return check_end(s->output, e);
}
