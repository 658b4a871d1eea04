/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thin-live METADATA DATA ROUNDS SEED: random life of a thin volume on a live
 * pool. After each round the pool's held metadata is asked what differs from
 * the snapshot before. Three oracles: the bytes of both snapshots (what differs
 * is named), what the round touched (nothing else is named), and thin_delta
 * (the same blocks). TAP on stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "kmod-free/track/thin_meta.h"

#define BLOCK 65536u /* of the pool */
#define SECTOR 512u
#define SMALL 100u /* blocks of the volume, at least and at most */
#define LARGE 300u
#define SECOND_EVERY 10

struct live {
	const char *metadata;
	unsigned long long random;
	int id;             /* of the volume, a number of the pool */
	int next;           /* a number that was never used */
	unsigned blocks;    /* of the volume */
	int fd;             /* the volume, direct */
	unsigned char *buf; /* LARGE blocks */
	bool touched[LARGE], named[LARGE];
};

static void __attribute__((noreturn, format(printf, 1, 2)))
bail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("Bail out! ");
	vprintf(fmt, ap);
	printf(" (%s)\n", strerror(errno));
	va_end(ap);
	exit(1);
}

/* Vigna's splitmix64. */
static unsigned
any(struct live *l, unsigned below)
{
	unsigned long long z = l->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (unsigned)((z ^ (z >> 31)) % below);
}

/* ---- device-mapper --------------------------------------------------------- */

static void
dm(int type, const char *name, const char *target, unsigned long long sectors,
    const char *text)
{
	struct dm_task *t = dm_task_create(type);

	if (t == NULL || !dm_task_set_name(t, name))
		bail("no memory");
	if (type == DM_DEVICE_TARGET_MSG)
		dm_task_set_message(t, text);
	else if (target != NULL)
		dm_task_add_target(t, 0, sectors, target, text);
	if (!dm_task_run(t))
		bail("device-mapper: %d of %s: %s", type, name, text);
	dm_task_destroy(t);
}

static struct dm_info
info_of(const char *name)
{
	struct dm_task *t = dm_task_create(DM_DEVICE_INFO);
	struct dm_info info;

	if (t == NULL || !dm_task_set_name(t, name) || !dm_task_run(t) ||
	    !dm_task_get_info(t, &info) || !info.exists)
		bail("no device %s", name);
	dm_task_destroy(t);
	return info;
}

/* By number: without udev there may be no other name. */
static int
open_dm(const char *name, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "/dev/dm-%u", info_of(name).minor);
	fd = open(path, flags | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		bail("open %s", path);
	return fd;
}

static void
message(const char *fmt, int a, int b)
{
	char text[64];

	snprintf(text, sizeof text, fmt, a, b);
	dm(DM_DEVICE_TARGET_MSG, "neap-pool", NULL, 0, text);
}

static void
thin(int type, const char *name, int id, unsigned blocks)
{
	struct dm_info pool = info_of("neap-pool");
	char table[64];

	snprintf(table, sizeof table, "%u:%u %d", pool.major, pool.minor, id);
	dm(type, name, "thin", (unsigned long long)blocks * (BLOCK / SECTOR),
	    table);
}

/* ---- what happens to the volume ---------------------------------------------- */

static void
touch(struct live *l, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count && i < LARGE; i++)
		l->touched[i] = true;
}

static void
put(struct live *l)
{
	unsigned first = any(l, l->blocks);
	unsigned part = any(l, BLOCK / 4096) * 4096u;
	unsigned len = (any(l, 40) + 1) * 4096u;
	off_t at = (off_t)first * BLOCK + part;

	if (at + len > (off_t)l->blocks * BLOCK)
		len = (unsigned)((off_t)l->blocks * BLOCK - at);
	for (unsigned i = 0; i < len; i += 64)
		memset(l->buf + i, (int)any(l, 256), 64);
	if (pwrite(l->fd, l->buf, len, at) != (ssize_t)len)
		bail("write %u at %lld", len, (long long)at);
	touch(l, first, (part + len + BLOCK - 1) / BLOCK);
}

static void
discard(struct live *l)
{
	unsigned first = any(l, l->blocks), n = any(l, 20) + 1;
	unsigned long long range[2];

	if (n > l->blocks - first)
		n = l->blocks - first;
	range[0] = (unsigned long long)first * BLOCK;
	range[1] = (unsigned long long)n * BLOCK;
	if (ioctl(l->fd, BLKDISCARD, range) < 0)
		bail("discard");
	touch(l, first, n);
}

static void
resize(struct live *l)
{
	unsigned was = l->blocks;

	l->blocks = SMALL + any(l, LARGE - SMALL + 1);
	thin(DM_DEVICE_RELOAD, "neap-volume", l->id, l->blocks);
	dm(DM_DEVICE_SUSPEND, "neap-volume", NULL, 0, "");
	dm(DM_DEVICE_RESUME, "neap-volume", NULL, 0, "");
	touch(l, was < l->blocks ? was : l->blocks,
	    was < l->blocks ? l->blocks - was : was - l->blocks);
}

/* On with a snapshot of it, as after a rollback. */
static void
fork_off(struct live *l)
{
	int old = l->id;

	close(l->fd);
	dm(DM_DEVICE_REMOVE, "neap-volume", NULL, 0, "");
	l->id = l->next++;
	message("create_snap %d %d", l->id, old);
	message("delete %d", old, 0);
	thin(DM_DEVICE_CREATE, "neap-volume", l->id, l->blocks);
	l->fd = open_dm("neap-volume", O_RDWR);
}

static void
live_on(struct live *l)
{
	unsigned n = any(l, 12);

	memset(l->touched, 0, sizeof l->touched);
	if (any(l, 6) == 0)
		resize(l);
	if (any(l, 8) == 0)
		fork_off(l);
	while (n-- > 0)
		if (any(l, 4) == 0)
			discard(l);
		else
			put(l);
}

static int
snapshot(struct live *l)
{
	int id = l->next++;

	dm(DM_DEVICE_SUSPEND, "neap-volume", NULL, 0, "");
	message("create_snap %d %d", id, l->id);
	dm(DM_DEVICE_RESUME, "neap-volume", NULL, 0, "");
	return id;
}

/* ---- the oracles -------------------------------------------------------------- */

static int
on_differ(void *arg, enum thin_meta_side side, uint64_t first, uint64_t count,
    struct err *e)
{
	struct live *l = arg;

	(void)side;
	(void)e;
	for (uint64_t i = first; i < first + count; i++) {
		if (i >= LARGE)
			bail("block %llu is named", (unsigned long long)i);
		l->named[i] = true;
	}
	return 0;
}

/* Numbers of blocks in its attributes, whatever the element:
 * <different begin="3" length="2"/>. */
static bool
thin_delta_agrees(const struct live *l, int from, int to)
{
	char command[256], line[256];
	bool theirs[LARGE] = {0};
	FILE *f;

	snprintf(command, sizeof command,
	    "thin_delta -m --thin1 %d --thin2 %d %s", from, to, l->metadata);
	f = popen(command, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		const char *begin = strstr(line, "begin=\"");
		const char *length = strstr(line, "length=\"");
		unsigned long at, n;

		if (strstr(line, "<same") != NULL || begin == NULL ||
		    length == NULL)
			continue;
		at = strtoul(begin + 7, NULL, 10);
		n = strtoul(length + 8, NULL, 10);
		for (unsigned long i = at; i < at + n && i < LARGE; i++)
			theirs[i] = true;
	}
	if (f == NULL || pclose(f) != 0)
		bail("%s", command);
	return memcmp(theirs, l->named, sizeof theirs) == 0;
}

/* Asks the held metadata; the second opinion, too. */
static const char *
ask(struct live *l, int from, int to, bool second)
{
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct err e = ERR_NONE;
	const char *wrong = NULL;
	int fd = open(l->metadata, O_RDONLY | O_DIRECT | O_CLOEXEC), rc;

	memset(l->named, 0, sizeof l->named);
	message("reserve_metadata_snap", 0, 0);
	rc = thin_meta_open(&m, fd, true, &e);
	if (rc == 0)
		rc = thin_meta_compare(
		    m, (uint32_t)from, (uint32_t)to, on_differ, l, &e);
	if (rc == 0)
		rc = thin_meta_check_held(m, &e);
	if (rc == 0 && second && !thin_delta_agrees(l, from, to))
		wrong = "thin_delta says otherwise";
	message("release_metadata_snap", 0, 0);
	if (rc == 0 && thin_meta_check_held(m, &e) != -ESTALE)
		wrong = "released, it is still called held";
	close(fd);
	if (rc < 0) {
		printf("# %s\n", e.text);
		wrong = "it gave no answer";
	}
	return wrong;
}

static void
read_all(struct live *l, int id, unsigned blocks, unsigned char *to)
{
	int fd;

	memset(to, 0, (size_t)LARGE * BLOCK);
	thin(DM_DEVICE_CREATE, "neap-look", id, blocks);
	fd = open_dm("neap-look", O_RDONLY);
	for (unsigned i = 0; i < blocks; i++)
		if (pread(fd, l->buf, BLOCK, (off_t)i * BLOCK) != BLOCK)
			bail("read block %u of %d", i, id);
		else
			memcpy(to + (size_t)i * BLOCK, l->buf, BLOCK);
	close(fd);
	dm(DM_DEVICE_REMOVE, "neap-look", NULL, 0, "");
}

static const char *
judge(const struct live *l, const unsigned char *a, const unsigned char *b)
{
	for (unsigned i = 0; i < l->blocks; i++) {
		size_t at = (size_t)i * BLOCK;

		if (!l->named[i] && memcmp(a + at, b + at, BLOCK) != 0)
			return "a block that differs is not named";
	}
	for (unsigned i = 0; i < LARGE; i++)
		if (l->named[i] && !l->touched[i])
			return "a block is named that nobody touched";
	return NULL;
}

static const char *
rounds(struct live *l, int n, int *at)
{
	unsigned char *a = mem_new((size_t)LARGE * BLOCK);
	unsigned char *b = mem_new((size_t)LARGE * BLOCK);
	const char *wrong = NULL;
	int from = snapshot(l);
	unsigned was = l->blocks;

	read_all(l, from, l->blocks, a);
	for (*at = 1; *at <= n && wrong == NULL; ++*at) {
		unsigned char *keep = a;
		int to;

		live_on(l);
		to = snapshot(l);
		wrong = ask(l, from, to, *at % SECOND_EVERY == 0);
		/* What was cut off keeps its blocks, in the older one too, and
		 * shows again when the volume grows: as the tracker does. */
		for (unsigned i = was; i < l->blocks; i++)
			l->named[i] = true;
		was = l->blocks;
		read_all(l, to, l->blocks, b);
		if (wrong == NULL)
			wrong = judge(l, a, b);
		message("delete %d", from, 0);
		from = to;
		a = b;
		b = keep;
	}
	free(a);
	free(b);
	return wrong;
}

int
main(int argc, char **argv)
{
	struct live l = {.next = 1, .blocks = SMALL};
	struct stat st;
	const char *wrong;
	char table[128];
	int at = 0;

	if (argc != 5 || stat(argv[2], &st) < 0)
		bail("usage: thin-live METADATA DATA ROUNDS SEED");
	l.metadata = argv[1];
	l.random = strtoull(argv[4], NULL, 10);
	if (posix_memalign((void **)&l.buf, 4096, (size_t)4 * BLOCK) != 0)
		bail("no memory");
	dm_udev_set_sync_support(0);
	snprintf(table, sizeof table, "%s %s %u 0", argv[1], argv[2],
	    BLOCK / SECTOR);
	dm(DM_DEVICE_CREATE, "neap-pool", "thin-pool",
	    2000ull * (BLOCK / SECTOR), table);
	message("create_thin %d", l.id, 0);
	thin(DM_DEVICE_CREATE, "neap-volume", l.id, l.blocks);
	l.fd = open_dm("neap-volume", O_RDWR);
	wrong = rounds(&l, (int)strtol(argv[3], NULL, 10), &at);
	close(l.fd);
	dm(DM_DEVICE_REMOVE, "neap-volume", NULL, 0, "");
	dm(DM_DEVICE_REMOVE, "neap-pool", NULL, 0, "");
	free(l.buf);
	if (wrong != NULL)
		printf("# round %d of seed %s: %s\n", at - 1, argv[4], wrong);
	printf(
	    "%sok 1 - %s rounds: what differs is named, nothing that was not "
	    "touched is, thin_delta agrees\n1..1\n",
	    wrong != NULL ? "not " : "", argv[3]);
	return wrong != NULL;
}
