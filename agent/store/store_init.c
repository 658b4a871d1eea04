/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/store.h"

#include <errno.h>
#include <unistd.h>

#include "agent/store/neap_json.h"

static int
refuse_key_file(const char *path, struct err *e)
{
	if (path == NULL || (access(path, F_OK) < 0 && errno == ENOENT))
		return 0;
	return err_set(e, -EEXIST,
	    "key file %s: exists already, and a key file is never replaced; "
	    "it may be the only key of another repository",
	    path);
}

static int
found_file(void *arg, const char *name, uint64_t len, struct err *e)
{
	(void)len;
	return err_set(e, -EEXIST,
	    "repository %s: the folder is not empty: it has %s",
	    (const char *)arg, name);
}

static int
refuse_repository(struct repo *r, struct err *e)
{
	uint64_t len;
	int rc = repo_size(r, NEAP_JSON_NAME, &len, e);

	if (rc == 0)
		return err_set(
		    e, -EEXIST, "repository %s: there is one already", r->url);
	if (rc != -ENOENT)
		return rc;
	err_clear(e);
	return repo_list(r, "", found_file, r->url, e);
}

/* Key files are durable before the repository is there: a repository without
 * its keys is of no use to anybody. */
static int
make_encrypted(struct repo *r, const struct keys *k, const char *host,
    const char *recovery, const char *passphrase, struct err *e)
{
	bool host_made = false, recovery_made = false;
	int rc = 0;

	if (host != NULL) {
		rc = keys_save(k, host, false, e);
		host_made = rc == 0;
	}
	if (rc == 0 && recovery != NULL) {
		rc = keys_save(k, recovery, true, e);
		recovery_made = rc == 0;
	}
	if (rc == 0)
		rc = neap_json_put(r, k, passphrase, e);
	if (rc < 0 && recovery_made)
		unlink(recovery);
	if (rc < 0 && host_made)
		unlink(host);
	return rc;
}

int
store_init(const char *url, bool encrypted, const char *host_key_path,
    const char *recovery_key_path, const char *passphrase, struct err *e)
{
	SCOPED_KEYS struct keys k = {0};
	struct repo *r = NULL;
	int rc;

	if (encrypted && recovery_key_path == NULL && passphrase == NULL)
		return err_set(e, -EINVAL,
		    "an encrypted repository needs a recovery key file or a "
		    "passphrase: nothing could be read back without");
	if (encrypted && refuse_key_file(host_key_path, e) < 0)
		return e->code;
	if (encrypted && refuse_key_file(recovery_key_path, e) < 0)
		return e->code;
	rc = keys_generate(&k, encrypted, e);
	if (rc == 0)
		rc = repo_open(&r, url, true, e);
	if (rc < 0)
		return rc;
	rc = refuse_repository(r, e);
	if (rc == 0 && encrypted)
		rc = make_encrypted(
		    r, &k, host_key_path, recovery_key_path, passphrase, e);
	else if (rc == 0)
		rc = neap_json_put(r, &k, NULL, e);
	repo_close(r);
	return rc;
}
