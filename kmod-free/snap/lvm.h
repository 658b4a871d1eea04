/*
 * lvm2, through its own commands: what a logical volume is, and changes to it.
 * A command of lvm is never killed: one that dies between its metadata and the
 * kernel's tables leaves a volume group that a person has to mend. For the
 * providers and the trackers of lvm. One thread's.
 */
#ifndef NEAP_SNAP_LVM_H
#define NEAP_SNAP_LVM_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/err.h"

#define LVM_UUID_MAX 40 /* "4yFDGL-zi0R-…", 38 characters */

/* Of a pool's metadata. Less than of its data: a snapshot, and more so one of
 * the metadata itself, makes whole trees be copied. */
#define LVM_METADATA_FULL_PERCENT 80

struct lvm_lv {
	char *vg, *name;
	char vg_uuid[LVM_UUID_MAX], uuid[LVM_UUID_MAX];
	char *segtype; /* "thin", "linear", "striped", "raid1", … */
	char *attr;    /* ten characters of lvs(8) */
	uint64_t size; /* bytes; of a thick snapshot: of its space */
	char *origin;  /* name; "" where it is no snapshot */
	char origin_uuid[LVM_UUID_MAX];
	char *pool;              /* thin: name; "" otherwise */
	int64_t thin_id;         /* -1: not thin */
	dev_t dev;               /* 0: not active */
	double data_percent;     /* of a pool or a thick snapshot; < 0: */
	double metadata_percent; /* of a pool; lvm does not say */
	char metadata_uuid[LVM_UUID_MAX]; /* pool: of its metadata's volume */
	char *health;                     /* "": nothing is wrong */
};

void lvm_lv_fini(struct lvm_lv *l); /* {0} is fine */
#define SCOPED_LVM_LV __attribute__((cleanup(lvm_lv_fini)))

/*
 * What lvm says of its volumes, hidden ones too. It is asked about all of them at
 * once, which takes it no longer than about one, and not again for five seconds or
 * until we have changed something. -ENOENT: it has none such.
 */
int lvm_by_name(
    const char *vg_uuid, const char *name, struct lvm_lv *out, struct err *e);
int lvm_by_uuid(
    const char *vg_uuid, const char *uuid, struct lvm_lv *out, struct err *e);
/* The one behind a block device. -EOPNOTSUPP: it is no logical volume, or
 * there is no lvm2 here. */
int lvm_of_device(dev_t dev, struct lvm_lv *out, struct err *e);
/* Each snapshot of a volume; fn may change what is there. */
typedef int lvm_lv_fn(void *arg, const struct lvm_lv *l, struct err *e);
int lvm_each_of(
    const struct lvm_lv *origin, lvm_lv_fn *fn, void *arg, struct err *e);
/* It is asked anew: for who must know what is there now. */
void lvm_forget(void);

/* What device-mapper calls a layer of it ("tpool", "cow"), NULL: itself; gives. */
char *lvm_dm_uuid(const struct lvm_lv *l, const char *layer);
/* Bytes of a volume group that no volume has, by the same report. */
int lvm_vg_free(const char *vg_uuid, uint64_t *bytes, struct err *e);

/* Runs "lvcreate" and the like, and forgets; args NULL-terminated, without the
 * command. */
int lvm_run(const char *command, const char *const *args, struct err *e);

#endif
