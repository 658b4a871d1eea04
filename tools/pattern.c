/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/pattern.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

int
pattern_add(struct pattern_list *l, const char *text, struct err *e)
{
	size_t n = strlen(text), wild = strcspn(text, "*?[\\");
	struct pattern *p;

	if (text[0] != '/' && text[0] != '*')
		return err_set(e, -EINVAL,
		    "'%s' is not an absolute path: "
		    "paths are those of the backed-up host",
		    text);
	MEM_ROOM(l->v, l->n, l->cap);
	p = &l->v[l->n++];
	p->matched = false;
	p->glob = wild < n;
	while (n > 1 && text[n - 1] == '/')
		n--;
	p->text = mem_strn(text, n);
	p->fixed = mem_strn(text, p->glob ? wild : n);
	if (p->glob && p->fixed[0] == '/')
		strrchr(p->fixed, '/')[1] = '\0';
	return 0;
}

void
pattern_free(struct pattern_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].text);
		free(l->v[i].fixed);
	}
	free(l->v);
	l->v = NULL;
	l->n = l->cap = 0;
}

bool
pattern_chooses(struct pattern_list *l, const char *path)
{
	bool chosen = l->n == 0;

	for (size_t i = 0; i < l->n; i++) {
		struct pattern *p = &l->v[i];
		bool yes = p->glob ? fnmatch(p->text, path, 0) == 0
				   : strcmp(p->text, path) == 0;

		/* "/" is the folder above all: its path is "" in a walk. */
		if (!p->glob && strcmp(p->text, "/") == 0 && path[0] == '\0')
			yes = true;
		if (yes)
			p->matched = chosen = true;
	}
	return chosen;
}

bool
pattern_may_be_below(const struct pattern_list *l, const char *path)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct pattern *p = &l->v[i];

		if (fs_below(p->fixed, path) ||
		    (p->glob && fs_below(path, p->fixed)))
			return true;
	}
	return l->n == 0;
}

int
pattern_check_matched(const struct pattern_list *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].matched)
			return err_set(e, -ENOENT,
			    "no path in the backup "
			    "matches '%s'",
			    l->v[i].text);
	return 0;
}
