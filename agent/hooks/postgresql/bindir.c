/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/bindir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/hooks/serve.h"

/* Output of "DIR/program option" without its line end; gives, or NULL. */
static char *
ask(const char *dir, const char *program, const char *option)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *path = fs_join(dir, program);
	const char *argv[] = {path, option, NULL};
	struct err ignored = ERR_NONE;
	size_t n;
	int status;

	if (access(path, X_OK) < 0 ||
	    serve_tool(&p, argv, &status, &ignored) < 0 || status != 0)
		return NULL;
	n = p.stdout_text.len;
	while (n > 0 && p.stdout_text.data[n - 1] == '\n')
		n--;
	return n > 0 ? mem_strn((char *)p.stdout_text.data, n) : NULL;
}

/* "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)" */
static bool
fits(const char *dir, int major)
{
	SCOPED_FREE char *version = ask(dir, "postgres", "--version");
	const char *at = version ? strstr(version, "(PostgreSQL) ") : NULL;

	return at != NULL && strtol(at + 13, NULL, 10) == major;
}

static bool
on_path(char **dir, int major)
{
	const char *env = getenv("PATH");
	SCOPED_FREE char *path = mem_str(env ? env : "/usr/bin:/bin");
	char *save = NULL;

	for (char *d = strtok_r(path, ":", &save); d != NULL;
	     d = strtok_r(NULL, ":", &save)) {
		SCOPED_FREE char *told = ask(d, "pg_config", "--bindir");

		if (d[0] != '/')
			continue;
		if (told != NULL && fits(told, major)) {
			*dir = TAKE(told);
			return true;
		}
		if (fits(d, major)) {
			*dir = mem_str(d);
			return true;
		}
	}
	return false;
}

int
bindir_find(char **dir, int major, const char *configured, struct err *e)
{
	/* Debian and Ubuntu; Red Hat and SUSE; built by hand. */
	static const char *const usual[] = {"/usr/lib/postgresql/%d/bin",
	    "/usr/pgsql-%d/bin", "/usr/lib/postgresql%d/bin",
	    "/usr/local/pgsql-%d/bin"};

	if (configured != NULL) {
		if (!fits(configured, major))
			return err_set(e, -ENOENT,
			    "bindir %s: no postgres %d "
			    "there",
			    configured, major);
		*dir = mem_str(configured);
		return 0;
	}
	for (size_t i = 0; i < MEM_COUNT(usual); i++) {
		SCOPED_FREE char *d = NULL;
		const char *mark = strstr(usual[i], "%d");

		d = mem_printf("%.*s%d%s", (int)(mark - usual[i]), usual[i],
		    major, mark + 2);
		if (fits(d, major)) {
			*dir = TAKE(d);
			return 0;
		}
	}
	if (on_path(dir, major))
		return 0;
	return err_set(e, -ENOENT,
	    "PostgreSQL %d is not installed on this "
	    "host: a copy starts only with the programs of its own major "
	    "version (or set connection.bindir)",
	    major);
}
