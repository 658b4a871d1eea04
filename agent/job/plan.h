/*
 * The plan of a backup: what the hook says the instance consists of, on which
 * volumes that lies, how it would be consistent, and why it would be refused.
 * Found afresh for every backup: a tablespace made yesterday is on it.
 */
#ifndef NEAP_JOB_PLAN_H
#define NEAP_JOB_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "agent/conf/conf.h"
#include "agent/hooks/client.h"
#include "kmod-free/snap/snap.h"

struct plan_volume {
	struct snap_volume *v;
	dev_t dev;       /* what stat says of the paths on it */
	uint32_t number; /* digest of its id: the block map's key */
	bool live;       /* provider "none": not a snapshot */
	bool several;    /* one of several that must be of one instant, */
	bool frozen;     /* and stopped for it with the others */
	bool taken;      /* its snapshot of this run stands, or may */
	uint64_t unused; /* bytes of its image that are not read: unused.c */
};

struct plan_path {
	char *path; /* absolute, resolved */
	char *role; /* data, wal, tablespace, config, … */
	char *rel;  /* in its volume's view */
	size_t volume;
	bool optional; /* may be absent in the view */
};

struct plan {
	const struct conf_job *job;
	char *program;  /* the hook */
	json_t *config; /* its NEAP_HOOK_CONFIG */
	uid_t uid;
	gid_t gid;
	struct asking *asking; /* while the hook is at work; plan_ask.c */
	json_t *probe;         /* what it said */
	struct hook_session *session; /* where it stays for the quiesce */
	struct plan_volume *volume;
	size_t volumes;
	struct plan_path *path;
	size_t paths;
	char **refusal; /* reasons with remedies */
	size_t refusals;
};

/*
 * In two steps, so that the caller has the hook's time: plan_ask starts its thaw
 * and then its probe, beside the caller; plan_make waits for what it says, and
 * finds volumes and refusals, which are in the plan, not errors.
 */
int plan_ask(struct plan *p, const struct conf *c, const struct conf_job *j,
    struct err *e);
int plan_make(struct plan *p, struct err *e);
void plan_fini(struct plan *p); /* {0} is fine */
#define SCOPED_PLAN __attribute__((cleanup(plan_fini)))

/* 0, or -EPERM with all refusals in the text. */
int plan_check(const struct plan *p, struct err *e);
struct hook_how plan_hook(const struct plan *p, const char *id);

void plan_explain(const struct plan *p, FILE *to);
json_t *plan_json(const struct plan *p);
/* "volumes" of a record's evidence. */
json_t *plan_volumes_json(const struct plan *p, const char *snapshot);
json_t *plan_paths_json(const struct plan *p);

#endif
