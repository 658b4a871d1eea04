/*
 * One instant for several volumes. All their devices are suspended by
 * device-mapper, which freezes the file systems on them; from the moment that
 * the last one is, nothing on them changes. Each snapshot is taken of a suspended
 * device; who takes it (lvcreate, of a thick volume) may let that device go on,
 * which does no harm to the others'. Then all go on. One more volume, which is not
 * frozen, may belong to them: its own snapshot, taken first, is the instant.
 *
 * Not FIFREEZE: lvcreate freezes its origin itself, on Linux 6.1 fails where it
 * finds it frozen, and leaves it suspended.
 *
 * What is suspended stays so whatever becomes of us, and its writers cannot be
 * killed. So a process of its own, the guard, lets all go on when we say so, when
 * we die, and at the limit; and where both died, the next run does, by a note in
 * /run/neap. Between begin and end the caller touches none of the volumes, and
 * starts nothing that has to be read from one.
 *
 * One thread's. Root only.
 */
#ifndef NEAP_SNAP_FREEZE_H
#define NEAP_SNAP_FREEZE_H

#include <stddef.h>
#include <stdint.h>

#include "kmod-free/snap/snap.h"

struct freeze;

/* Could it be frozen together with others? -EOPNOTSUPP: it cannot be, or what is
 * needed meanwhile lies on it, with its name in the text. */
int freeze_check(struct snap_volume *v, struct err *e);
/* What can be done before: see that nobody else has suspended one (-EBUSY), and
 * write out what is waiting, so that the freeze is short. Lends `v`. */
int freeze_prepare(
    struct freeze **out, struct snap_volume *const *v, size_t n, struct err *e);
/* On failure none is frozen. -ETIMEDOUT: it took longer than the limit. */
int freeze_begin(struct freeze *f, int64_t limit_ms, struct err *e);
/* Still, v[i]? To be asked before its snapshot is taken. -ETIMEDOUT: the guard
 * has let it go; -ESTALE: somebody else has. */
int freeze_holds(const struct freeze *f, size_t i, struct err *e);
/* All go on. -ETIMEDOUT: they did so before, at the limit: then what was taken
 * meanwhile is of no one instant. How long they stood in any case. */
int freeze_end(struct freeze *f, int64_t *held_ms, struct err *e);
void freeze_free(struct freeze *f); /* ends it as well; NULL is fine */

/* Let go on what dead runs have left suspended. Gives the number of devices. */
int freeze_recover(struct err *e);

#endif
