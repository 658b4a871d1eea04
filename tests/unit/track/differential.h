/*
 * A tracker's answer about two snapshots, held against the bytes of both:
 * every 4 KiB block that differs must have been named.
 */
#ifndef NEAP_TESTS_TRACK_DIFFERENTIAL_H
#define NEAP_TESTS_TRACK_DIFFERENTIAL_H

#include "kmod-free/io/reader.h"
#include "kmod-free/track/tracker.h"
#include "tests/unit/track/btrfs_work.h"

/* Both ways of comparing. */
static const char *const trackers[] = {"btrfs-send", "btrfs-extents"};
#define TRACKERS MEM_COUNT(trackers)

struct count {
	uint64_t files, blocks, differing, reused;
	uint64_t named[TRACKERS], placed;
};

/* ---- the files of a snapshot ---- */

struct file {
	uint64_t ino, gen, size;
	int fd;
};

struct files {
	struct file *v;
	size_t n, cap;
};

static inline void
files_fini(struct files *l)
{
	for (size_t i = 0; i < l->n; i++)
		close(l->v[i].fd);
	free(l->v);
}
#define SCOPED_FILES __attribute__((cleanup(files_fini)))

static inline const struct file *
file_of(const struct files *l, uint64_t ino)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].ino == ino)
			return &l->v[i];
	return NULL;
}

static inline void
open_files(int view, struct files *out)
{
	struct things t = {0};

	collect(view, ".", S_IFREG, &t);
	for (size_t i = 0; i < t.n; i++) {
		struct file f = {0};
		struct stat st;
		long gen = 0;

		f.fd = openat(view, t.v[i], O_RDONLY | O_CLOEXEC);
		assert_true(f.fd >= 0);
		assert_int_equal(fstat(f.fd, &st), 0);
		assert_int_equal(ioctl(f.fd, FS_IOC_GETVERSION, &gen), 0);
		f.ino = st.st_ino;
		f.gen = (uint32_t)gen;
		f.size = (uint64_t)st.st_size;
		if (file_of(out, f.ino) != NULL) {
			close(f.fd); /* another name of it */
			continue;
		}
		MEM_ROOM(out->v, out->n, out->cap);
		out->v[out->n++] = f;
	}
	things_fini(&t);
}

/* All of it, and zeros up to `len`. */
static inline uint8_t *
content(const struct file *f, uint64_t len)
{
	uint8_t *p = mem_new(len + 1);
	struct err e = ERR_NONE;

	must(fs_pread(f->fd, p, f->size, 0, &e), &e);
	return p;
}

/* ---- judging ---- */

static inline void
fail_with_journal(const char *text)
{
	buf_put_u8(&random_ops_journal, 0);
	fail_msg("%s; operations:\n%s", text, (char *)random_ops_journal.data);
}

static inline void
judge_block(const struct file *a, const struct file *b, uint64_t off,
    bool differs, const struct tracker_answer *answer, struct count *c)
{
	c->blocks++;
	c->differing += differs;
	for (size_t i = 0; i < TRACKERS; i++) {
		char text[200];

		if (answer[i].everything)
			continue;
		if (extents_contain(&answer[i].ranges, b->ino, off, BLOCK)) {
			c->named[i]++;
			continue;
		}
		if (!differs)
			continue;
		snprintf(text, sizeof text,
		    "%s did not name block %llu of inode %llu (sizes %llu and "
		    "%llu)",
		    trackers[i], (unsigned long long)(off / BLOCK),
		    (unsigned long long)b->ino, (unsigned long long)a->size,
		    (unsigned long long)b->size);
		fail_with_journal(text);
	}
}

static inline void
judge_file(const struct file *a, const struct file *b,
    const struct tracker_answer *answer, struct count *c)
{
	uint64_t size = a->size > b->size ? a->size : b->size;
	uint64_t end = (size + BLOCK - 1) / BLOCK * BLOCK;
	SCOPED_FREE uint8_t *p = content(a, end), *q = content(b, end);

	for (uint64_t off = 0; off < end; off += BLOCK)
		judge_block(
		    a, b, off, memcmp(p + off, q + off, BLOCK) != 0, answer, c);
	c->files++;
}

/* Where it says that bytes lie, they are, as the file system's own answer has
 * it. */
static inline void
judge_places(
    const struct file *b, const struct extents *ranges, struct count *c)
{
	for (size_t i = extents_first(ranges, b->ino);
	     i < ranges->n && ranges->v[i].object == b->ino; i++) {
		const struct extent *x = &ranges->v[i];
		struct reader_phys at;
		struct err e = ERR_NONE;

		if (x->place == 0)
			continue;
		c->placed++;
		if (reader_physical(b->fd, x->off, BLOCK, &at, 1, &e) != 1 ||
		    at.off > x->off || at.phys + (x->off - at.off) != x->place)
			fail_with_journal("a range is not where it is said");
	}
}

/* Files that are in both: what is new is the caller's to copy as a whole. */
static inline void
judge(int from, int to, const struct tracker_answer *answer, bool moving,
    struct count *c)
{
	SCOPED_FILES struct files a = {0}, b = {0};

	open_files(from, &a);
	open_files(to, &b);
	for (size_t i = 0; i < b.n; i++) {
		const struct file *old = file_of(&a, b.v[i].ino);

		if (old == NULL)
			continue;
		for (size_t k = 0; k < TRACKERS && !moving; k++)
			judge_places(&b.v[i], &answer[k].ranges, c);
		if (old->gen == b.v[i].gen)
			judge_file(old, &b.v[i], answer, c);
		else
			c->reused++;
	}
}

/* ---- asking ---- */

static inline int
ask_one(struct snap_volume *v, const char *name, const char *from,
    const char *to, struct tracker_answer *out, struct err *e)
{
	struct tracker_pair p = {.volume = v, .from = from, .to = to};
	const struct tracker_ops *t = NULL;
	int rc;

	must(tracker_pick(&t, name, v, e), e);
	rc = tracker_changed(t, &p, out, e);
	if (rc < 0)
		return rc;
	assert_false(out->everything);
	assert_true(out->ranges.n == 0 || out->ranges.settled);
	return 0;
}

static inline void
judge_views(struct snap_volume *v, const char *from, const char *to,
    const struct tracker_answer *answer, bool moving, struct count *c)
{
	struct err e = ERR_NONE;
	SCOPED_FD int old = snap_view(v, from, &e), new = -1;

	must(old, &e);
	new = snap_view(v, to, &e);
	must(new, &e);
	judge(old, new, answer, moving, c);
}

/*
 * Ask both about two snapshots: each answers, and right; or, where `moving`
 * says that extents may be moved about meanwhile, is stale, which means to take
 * everything. (A file system that the kernel has given up answers nothing.)
 * Returns how many were stale.
 */
static inline unsigned
ask_both(struct snap_volume *v, const char *from, const char *to, bool moving,
    struct count *c)
{
	struct tracker_answer answer[TRACKERS] = {0};
	unsigned stale = 0;

	for (size_t i = 0; i < TRACKERS; i++) {
		struct err e = ERR_NONE;
		int rc = ask_one(v, trackers[i], from, to, &answer[i], &e);

		if (rc < 0 && (rc != -ESTALE || !moving) && !forced_read_only())
			fail_with_journal(e.text);
		answer[i].everything = rc < 0;
		stale += rc < 0;
	}
	if (stale < TRACKERS)
		judge_views(v, from, to, answer, moving, c);
	for (size_t i = 0; i < TRACKERS; i++)
		tracker_answer_fini(&answer[i]);
	return stale;
}

static inline void
report(const struct count *c)
{
	print_message("%llu pairs of files, %llu blocks, %llu differ, %llu "
		      "inode numbers used again\n",
	    (unsigned long long)c->files, (unsigned long long)c->blocks,
	    (unsigned long long)c->differing, (unsigned long long)c->reused);
	for (size_t i = 0; i < TRACKERS; i++)
		print_message("%s: %llu named, %.2f times the truth\n",
		    trackers[i], (unsigned long long)c->named[i],
		    c->differing ? (double)c->named[i] / (double)c->differing
				 : 1);
}

#endif
