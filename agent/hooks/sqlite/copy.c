/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/copy.h"

#include <errno.h>
#include <sys/stat.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

int
copy_path(char **path, const struct serve *s, struct err *e)
{
	const json_t *paths =
	    json_object_get(json_object_get(s->config, "probe"), "paths");
	/* The probe's is the real path, which is what the backup holds. */
	const char *from = jdoc_str(json_array_get(paths, 0), "path", NULL);
	SCOPED_FREE char *copy = NULL;
	struct stat st;

	if (from == NULL && serve_path(s, &from, e) < 0)
		return e->code;
	copy = serve_clone_path(s, from);
	if (lstat(copy, &st) < 0)
		return err_sys(e, errno, "the copy %s", copy);
	if (!S_ISREG(st.st_mode))
		return err_set(
		    e, -EPERM, "the copy %s is not a regular file", copy);
	*path = TAKE(copy);
	return 0;
}
