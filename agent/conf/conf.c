/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "agent/conf/conf_parts.h"
#include "agent/core/bytes.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"

/* The largest sensible one, a thousand jobs, is a third of it. */
#define FILE_MAX_LEN (1u << 20)

#define ZSTD_LEVEL_MAX 19 /* from 20 up the reader's memory is unbounded */

/* "zstd:3" */
static int
read_compression(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	const char *s, *level;
	char *end;
	long v;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	(void)k;
	if (rc < 0)
		return rc;
	level = strncmp(s, "zstd:", 5) == 0 ? s + 5 : "";
	v = strtol(level, &end, 10);
	if (strspn(level, "0123456789") != strlen(level) || end == level ||
	    v < 1 || v > ZSTD_LEVEL_MAX)
		return conf_yaml_error(n, e,
		    "'%s' is not zstd:LEVEL with a level from 1 to %d", s,
		    ZSTD_LEVEL_MAX);
	*(int *)field = (int)v;
	return 0;
}

static int
read_encryption(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	SCOPED_FREE char *word = NULL;
	int rc = conf_key_word(n, k, &word, e);

	if (rc < 0)
		return rc;
	*(bool *)field = strcmp(word, "none") != 0;
	return 0;
}

/* An absolute path, or SCHEME://REST. */
static int
read_url(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const char *s, *rest;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	if (rc < 0)
		return rc;
	rest = strstr(s, "://");
	if (rest == NULL || *s == '/')
		return conf_key_path(n, k, field, e);
	if (rest == s || rest[3] == '\0' ||
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") !=
		(size_t)(rest - s))
		return conf_yaml_error(n, e,
		    "'%s' is not a repository; name a folder "
		    "(/var/backups/neap) or s3://BUCKET/PREFIX",
		    s);
	return conf_key_text(n, k, field, e);
}

static int
read_endpoint(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const char *s;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	if (rc < 0)
		return rc;
	if (strncmp(s, "https://", 8) != 0 && strncmp(s, "http://", 7) != 0)
		return conf_yaml_error(
		    n, e, "'%s' does not begin with https:// or http://", s);
	return conf_key_text(n, k, field, e);
}

static int
read_jobs(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	(void)k;
	return conf_job_parse_all(n, field, e);
}

static const char *const ciphers[] = {"none", "aes-256-gcm", NULL};

#define AT(field) offsetof(struct conf, field)
static const struct conf_key repository_keys[] = {
    {.name = "url", AT(repo_url), read_url, .required = true},
    {.name = "host_key", AT(host_key), conf_key_path},
    {.name = "recovery_key", AT(recovery_key), conf_key_path},
    {.name = "compression", AT(zstd_level), read_compression},
    {.name = "encryption", AT(encryption), read_encryption, .words = ciphers},
    {.name = "endpoint", AT(repo_endpoint), read_endpoint},
    {.name = "region", AT(repo_region), conf_key_text},
};
static const struct conf_section repository_section = {
    repository_keys, MEM_COUNT(repository_keys)};

/* Its members are struct conf's own. */
static int
read_repository(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	struct conf *c = field;
	int rc = conf_key_section(n, &repository_section, c, e);

	(void)k;
	if (rc < 0)
		return rc;
	if (c->encryption && c->host_key == NULL && c->recovery_key == NULL)
		return conf_yaml_error_key(n, e,
		    "no key is named; give 'host_key' (to back up) or "
		    "'recovery_key' (to restore), or say 'encryption: none'");
	if (!c->encryption && (c->host_key != NULL || c->recovery_key != NULL))
		return conf_yaml_error_key(n, e,
		    "'encryption: none' and a key file exclude each other");
	if (strncmp(c->repo_url, "s3://", 5) != 0 &&
	    (c->repo_endpoint != NULL || c->repo_region != NULL))
		return conf_yaml_error_key(
		    n, e, "'endpoint' and 'region' go with an s3:// url only");
	return 0;
}

static const struct conf_key top_keys[] = {
    {.name = "state_dir", AT(state_dir), conf_key_path},
    {.name = "repository", 0, read_repository, .required = true},
    {.name = "threads", AT(threads), conf_key_whole, .max = 256},
    {.name = "hooks_dir", AT(hooks_dir), conf_key_path},
    {.name = "jobs", 0, read_jobs},
};
static const struct conf_section top_section = {top_keys, MEM_COUNT(top_keys)};

int
conf_parse(struct conf *c, const char *file, const char *text, size_t len,
    struct err *e)
{
	SCOPED_CONF struct conf got = {.encryption = true, .zstd_level = 3};
	struct conf_yaml y = {0};
	struct conf_node root;
	int rc;

	if (len > FILE_MAX_LEN)
		return err_set(e, -EINVAL,
		    "%s: larger than %u bytes; that is no configuration", file,
		    FILE_MAX_LEN);
	rc = conf_yaml_parse(&y, file, text, len, e);
	if (rc < 0)
		return rc;
	got.file = mem_str(file);
	got.state_dir = mem_str("/var/lib/neap");
	root = conf_yaml_root(&y);
	rc = conf_key_section(&root, &top_section, &got, e);
	conf_yaml_fini(&y);
	if (rc < 0)
		return rc;
	*c = got;
	got = (struct conf){0};
	return 0;
}

int
conf_load(struct conf *c, const char *file, struct err *e)
{
	SCOPED_BUF struct buf text = {0};
	int rc = fs_read_at(AT_FDCWD, file, FILE_MAX_LEN, &text, e);

	if (rc == -ENOENT)
		return err_set(e, rc,
		    "no configuration at %s: make one (see neap.yaml(5)) or "
		    "name it with -c",
		    file);
	if (rc == -EFBIG)
		return err_set(e, -EINVAL,
		    "%s: larger than %u bytes; that is no configuration", file,
		    FILE_MAX_LEN);
	if (rc < 0)
		return err_wrap(e, "configuration");
	return conf_parse(c, file, (const char *)text.data, text.len, e);
}

void
conf_free(struct conf *c)
{
	conf_job_free_all(c);
	free(c->file);
	free(c->state_dir);
	free(c->hooks_dir);
	free(c->repo_url);
	free(c->repo_endpoint);
	free(c->repo_region);
	free(c->host_key);
	free(c->recovery_key);
	*c = (struct conf){0};
}
