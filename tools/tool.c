/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/passphrase.h"

static int
load_conf(struct tool *t, struct err *e)
{
	const char *file = t->conf_file ? t->conf_file : CONF_PATH_DEFAULT;
	int rc;

	/* -r alone is enough on a bare host. */
	if (t->url != NULL && t->conf_file == NULL)
		return 0;
	rc = conf_load(&t->conf, file, e);
	if (rc < 0) {
		if (t->conf_file == NULL)
			err_hint(e, "name a configuration with -c, or a "
				    "repository with -r URL --key FILE");
		/* A configuration that is not there is a matter of usage. */
		return e->code == -ENOENT ? e->code = -EINVAL : e->code;
	}
	t->have_conf = true;
	return 0;
}

int
tool_locate(struct tool *t, struct err *e)
{
	int rc = load_conf(t, e);

	if (rc < 0)
		return rc;
	if (t->passphrase_file != NULL) {
		rc = passphrase_load(&t->passphrase, t->passphrase_file, e);
		if (rc < 0)
			return rc;
	}
	t->how.url = t->url ? t->url : t->conf.repo_url;
	t->how.key_path = t->key_path;
	t->how.passphrase = t->passphrase;
	if (t->how.key_path == NULL && t->passphrase == NULL && t->have_conf &&
	    t->url == NULL)
		t->how.key_path = t->conf.recovery_key;
	return 0;
}

int
tool_open(struct tool *t, struct err *e)
{
	int rc = tool_locate(t, e);

	return rc < 0 ? rc : store_open(&t->store, &t->how, e);
}

void
tool_fini(struct tool *t)
{
	store_close(&t->store);
	conf_free(&t->conf);
	if (t->passphrase != NULL)
		explicit_bzero(t->passphrase, strlen(t->passphrase));
	free(t->passphrase);
	t->passphrase = NULL;
}

int
tool_getopt(int argc, char **argv, const char *shorts,
    const struct option *longs, struct err *e)
{
	int at = optind == 0 ? 1 : optind;
	int o;

	opterr = 0;
	o = getopt_long(argc, argv, shorts, longs, NULL);
	if (o == ':')
		err_set(e, -EINVAL, "%s needs a value", argv[at]);
	else if (o == '?')
		err_set(e, -EINVAL, "there is no option %s here", argv[at]);
	else
		return o;
	err_hint(e, "see --help");
	return '?';
}

int
tool_args(
    int argc, char **argv, int n, const struct tool_command *c, struct err *e)
{
	(void)argv;
	if (argc - optind == n)
		return 0;
	return err_set(e, -EINVAL, "usage: neap-restore %s", c->usage);
}

int
tool_print_json(const json_t *j, struct err *e)
{
	SCOPED_FREE char *text = jdoc_text(j);

	if (text == NULL || printf("%s\n", text) < 0)
		return err_sys(e, EIO, "write to standard output");
	return 0;
}
