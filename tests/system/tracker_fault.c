/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tracker that lies, for tests/system/tracker-fault.sh. Linked in the place
 * of kmod-free/track/tracker_all.c it makes the program neap-faulty, which is
 * neap but for the one thing: "btrfs-extents" answers as the environment's
 * NEAP_FAULT says.
 *
 *	drop   without the largest of its ranges
 *	hole   without what became a hole (of files in the volume's root)
 *	       otherwise the whole truth
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "kmod-free/track/tracker_all.h"

static void
drop_largest(struct extents *x)
{
	struct extents kept = {0};
	size_t largest = 0;

	for (size_t i = 1; i < x->n; i++)
		if (x->v[i].len > x->v[largest].len)
			largest = i;
	for (size_t i = 0; i < x->n; i++)
		if (i != largest)
			extents_add(
			    &kept, x->v[i].object, x->v[i].off, x->v[i].len);
	extents_fini(x);
	*x = kept;
}

/* That file of the folder, or -1. */
static int
open_inode(int view, uint64_t ino)
{
	DIR *d = fdopendir(openat(view, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *de;
	int fd = -1;

	while (fd < 0 && d != NULL && (de = readdir(d)) != NULL)
		if (de->d_type == DT_REG && de->d_ino == ino)
			fd = openat(view, de->d_name, O_RDONLY | O_CLOEXEC);
	if (d != NULL)
		closedir(d);
	return fd;
}

/* Of one range, what is data. */
static void
add_data(struct extents *to, const struct extent *v, int fd)
{
	uint64_t end = v->off + v->len, at = v->off;

	while (at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		uint64_t stop = (uint64_t)hole < end ? (uint64_t)hole : end;

		if (hole < 0 || (uint64_t)data >= end)
			return;
		extents_add(
		    to, v->object, (uint64_t)data, stop - (uint64_t)data);
		at = stop;
	}
}

static int
drop_holes(const struct tracker_pair *p, struct extents *x, struct err *e)
{
	struct extents kept = {0};
	SCOPED_FD int view = snap_view(p->volume, p->to, e);

	if (view < 0)
		return view;
	for (size_t i = 0; i < x->n; i++) {
		SCOPED_FD int fd = open_inode(view, x->v[i].object);

		if (fd >= 0)
			add_data(&kept, &x->v[i], fd);
	}
	extents_fini(x);
	*x = kept;
	return 0;
}

static int
faulty_probe(struct snap_volume *v, struct err *e)
{
	return tracker_btrfs_extents.probe(v, e);
}

static int
faulty_changed(
    const struct tracker_pair *p, struct tracker_answer *out, struct err *e)
{
	const char *fault = getenv("NEAP_FAULT");
	int rc = tracker_btrfs_extents.changed(p, out, e);

	if (rc < 0 || fault == NULL)
		return rc;
	extents_settle(&out->ranges);
	if (strcmp(fault, "drop") == 0 && out->ranges.n > 0)
		drop_largest(&out->ranges);
	if (strcmp(fault, "hole") == 0)
		rc = drop_holes(p, &out->ranges, e);
	return rc;
}

static const struct tracker_ops tracker_faulty = {
    .name = "btrfs-extents",
    .summary = "lies",
    .compares = true,
    .second = "btrfs-send",
    .probe = faulty_probe,
    .changed = faulty_changed,
};

const struct tracker_ops *const tracker_all[] = {
    &tracker_scan,
    &tracker_faulty,
    &tracker_btrfs_send,
    NULL,
};
