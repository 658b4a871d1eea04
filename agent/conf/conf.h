/*
 * The configuration: one YAML file read into one checked struct. Unknown keys,
 * wrong types and impossible values are errors "FILE:LINE: jobs.orders.keep:
 * …" with -EINVAL. All strings are owned by the struct.
 */
#ifndef NEAP_CONF_CONF_H
#define NEAP_CONF_CONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"

#define CONF_PATH_DEFAULT "/etc/neap/neap.yaml"

struct conf_keep {
	unsigned last, hourly, daily, weekly, monthly; /* 0: not asked for */
};

struct conf_check {
	char *schedule; /* or NULL */
	char **queries; /* NULL-terminated, or NULL */
};

struct conf_job {
	char *name;
	unsigned line;
	char *engine;   /* postgresql, mariadb, sqlite, redis, script, files */
	char *path;     /* sqlite, files, script: absolute; else NULL */
	char *hook;     /* engine script: the program */
	char *run_as;   /* or NULL */
	char *snapshot; /* auto, btrfs, lvm_thin, lvm_thick, device,
			   none */
	char *tracker;  /* auto, or the word of a tracker */
	char *schedule; /* systemd-calendar-like, or NULL */
	bool hold;      /* sqlite: BEGIN IMMEDIATE around the snapshot */
	json_t *connection; /* object of strings and numbers, or NULL */
	struct conf_keep keep;
	struct conf_check check;
	unsigned hold_ms;      /* limit of a hold; default 10000 */
	double sample_percent; /* of unnamed blocks; default 0.1 */
	unsigned rolling_days; /* whole re-hash within; default 30 */
};

struct conf {
	char *file;
	char *state_dir; /* default /var/lib/neap */
	char *hooks_dir; /* or NULL */
	char *repo_url;
	char *repo_endpoint, *repo_region; /* s3; or NULL */
	char *host_key, *recovery_key;     /* paths, or NULL */
	bool encryption;                   /* default true */
	int zstd_level;                    /* default 3; 1 to 19 */
	unsigned threads;                  /* 0: one for each processor */
	struct conf_job *job;
	size_t jobs;
};

int conf_load(struct conf *c, const char *file, struct err *e);
int conf_parse(struct conf *c, const char *file, const char *text, size_t len,
    struct err *e);
void conf_free(struct conf *c); /* contents; {0} is fine */
#define SCOPED_CONF __attribute__((cleanup(conf_free)))

/* By name; NULL with -EINVAL and the names that there are. */
const struct conf_job *conf_job(
    const struct conf *c, const char *name, struct err *e);
/* What a hook gets as NEAP_HOOK_CONFIG; gives. */
json_t *conf_hook_json(const struct conf_job *j);

#endif
