/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/store/passphrase.h"

/* A passphrase stands for all the data: the scrypt behind it slows guessing,
 * it does not make a short word long. */
#define PASSPHRASE_MIN 8u

static int
read_passphrase(const char *path, char **out, struct err *e)
{
	SCOPED_FREE char *words = NULL;
	int rc = passphrase_load(&words, path, e);

	if (rc < 0)
		return rc;
	if (strlen(words) < PASSPHRASE_MIN)
		return err_set(e, -EINVAL,
		    "passphrase in %s: %zu characters are too few; use at "
		    "least %u, better five words",
		    path, strlen(words), PASSPHRASE_MIN);
	*out = TAKE(words);
	return 0;
}

int
cmd_init(struct cmd *c, struct err *e)
{
	const struct conf *f = &c->conf;
	SCOPED_FREE char *passphrase = NULL;
	int rc = 0;

	if (c->passphrase_file != NULL)
		rc = read_passphrase(c->passphrase_file, &passphrase, e);
	if (rc < 0)
		return rc;
	if (f->encryption && (f->host_key == NULL || f->recovery_key == NULL))
		return err_set(e, -EINVAL,
		    "%s: repository.host_key and repository.recovery_key must "
		    "both be set when the repository is made (or encryption: "
		    "none)",
		    f->file);
	rc = store_init(f->repo_url, f->encryption, f->host_key,
	    f->recovery_key, passphrase, e);
	if (rc < 0)
		return rc;
	if (c->json) {
		json_t *j = json_pack("{s:s, s:b, s:s*, s:s*}", "repository",
		    f->repo_url, "encrypted", f->encryption, "host_key",
		    f->encryption ? f->host_key : NULL, "recovery_key",
		    f->encryption ? f->recovery_key : NULL);

		cmd_print_json(j);
		json_decref(j);
		return 0;
	}
	printf("Made the repository %s.\n", f->repo_url);
	if (!f->encryption) {
		printf("It is NOT encrypted: who reads its files reads your "
		       "data.\n");
		return 0;
	}
	printf("  %s\n      stays on this host: enough to add backups and to "
	       "list them,\n      not to read data back.\n",
	    f->host_key);
	printf("  %s\n      reads everything back. Copy it to two safe places "
	       "off this host now,\n      then remove it here, unless this "
	       "host also runs restore checks.\n"
	       "      Without it no backup can ever be restored.\n",
	    f->recovery_key);
	return 0;
}
