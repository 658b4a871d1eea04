/*
 * The backups of a repository and the proofs of their restores.
 *
 * A record is the JSON document that docs/format.md specifies; this header has
 * its parts that code acts on. Names: "JOB/TIME".
 */
#ifndef NEAP_STORE_CATALOG_H
#define NEAP_STORE_CATALOG_H

#include <jansson.h>

#include "agent/store/map.h"

#define CATALOG_JOB_MAX 64

struct catalog_entry {
	char job[CATALOG_JOB_MAX + 1];
	char time[20];
	int64_t utc_s;
	uint64_t record_len;
};

struct catalog_list {
	struct catalog_entry *v; /* by job, then time */
	size_t n;
};

/* All backups, or one job's; names only, no record is opened. */
int catalog_list(
    struct repo *r, const char *job, struct catalog_list *out, struct err *e);
void catalog_list_free(struct catalog_list *l);
#define SCOPED_CATALOG __attribute__((cleanup(catalog_list_free)))

/*
 * "JOB/TIME", "JOB/latest", or a unique prefix of either ("orders/2026112").
 * -ENOENT says what there is; -EINVAL where it is ambiguous.
 */
int catalog_resolve(
    struct repo *r, const char *spec, struct catalog_entry *out, struct err *e);

/* 0, or -EINVAL: [a-z0-9][a-z0-9_.-]*, at most CATALOG_JOB_MAX. */
int catalog_check_job(const char *job, struct err *e);

/* The commit of a backup: all that it names is synced before. */
int catalog_put(struct repo *r, const struct keys *k, const char *job,
    const char *time, const json_t *record, struct err *e);
int catalog_get(struct repo *r, const struct keys *k, const char *job,
    const char *time, json_t **record, struct err *e);

/* The "maps" member of a record, checked; gives *maps. */
int catalog_maps(
    const json_t *record, struct map_ref **maps, size_t *n, struct err *e);
json_t *catalog_maps_json(const struct map_ref *maps, size_t n);

/* Proofs: proofs/JOB/TIME/CHECKED; newest of a job by any backup. */
int catalog_put_proof(struct repo *r, const struct keys *k, const char *job,
    const char *time, const char *checked, const json_t *proof, struct err *e);
/* 1 and the newest proof (gives), 0 none. time NULL: of any backup. */
int catalog_last_proof(struct repo *r, const struct keys *k, const char *job,
    const char *time, json_t **proof, struct err *e);

#endif
