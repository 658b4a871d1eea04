/*
 * The btrfs send stream as bytes: frames, checksums, attributes. Knows nothing
 * of what commands mean. Nothing in the stream is believed: every length is
 * checked, every command's CRC-32C too. One thread's.
 *
 * Source: fs/btrfs/send.h (Linux 6.12). All integers little-endian.
 */
#ifndef NEAP_TRACK_SEND_STREAM_H
#define NEAP_TRACK_SEND_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

enum send_op {
	SEND_SUBVOL = 1,
	SEND_SNAPSHOT,
	SEND_MKFILE,
	SEND_MKDIR,
	SEND_MKNOD,
	SEND_MKFIFO,
	SEND_MKSOCK,
	SEND_SYMLINK,
	SEND_RENAME,
	SEND_LINK,
	SEND_UNLINK,
	SEND_RMDIR,
	SEND_SET_XATTR,
	SEND_REMOVE_XATTR,
	SEND_WRITE,
	SEND_CLONE,
	SEND_TRUNCATE,
	SEND_CHMOD,
	SEND_CHOWN,
	SEND_UTIMES,
	SEND_END,
	SEND_UPDATE_EXTENT,
	SEND_FALLOCATE, /* version 2 */
	SEND_FILEATTR,
	SEND_ENCODED_WRITE,
	SEND_ENABLE_VERITY, /* version 3 */
};

enum send_attr {
	SEND_A_UUID = 1,
	SEND_A_CTRANSID = 2,
	SEND_A_INO = 3,
	SEND_A_SIZE = 4,
	SEND_A_PATH = 15,
	SEND_A_PATH_TO = 16,
	SEND_A_PATH_LINK = 17,
	SEND_A_FILE_OFFSET = 18,
	SEND_A_DATA = 19,
	SEND_A_CLONE_UUID = 20,
	SEND_A_CLONE_CTRANSID = 21,
	SEND_A_CLONE_LEN = 24,
	SEND_A_UNENCODED_FILE_LEN = 27,
	SEND_A_MAX = 35, /* of version 3 */
};

#define SEND_VERSION_MAX 3
/* The kernel's largest is 144 KiB (BTRFS_SEND_BUF_SIZE_V2). */
#define SEND_COMMAND_MAX (256u << 10)

/* Borrowed from the stream for the call. */
struct send_command {
	unsigned op; /* enum send_op, or one that we do not know */
	uint64_t at; /* its offset in the stream, for messages */
	struct span attr[SEND_A_MAX + 1]; /* data NULL: absent */
};

/* 0, or a negative errno that ends the reading. */
typedef int send_stream_fn(
    void *arg, const struct send_command *c, struct err *e);

struct send_stream {
	struct buf pending; /* bytes of what is not whole yet */
	uint64_t at;        /* stream offset of its first byte */
	unsigned version;   /* 0: the header has not come */
	bool ended;         /* the END command came */
};

/* Takes the next bytes; calls fn for each command that is whole. -EBADMSG. */
int send_stream_feed(struct send_stream *s, const void *data, size_t n,
    send_stream_fn *fn, void *arg, struct err *e);
/* No more bytes will come: -EBADMSG unless it ended as a stream ends. */
int send_stream_finish(const struct send_stream *s, struct err *e);
void send_stream_fini(struct send_stream *s);
#define SCOPED_SEND_STREAM __attribute__((cleanup(send_stream_fini)))

/* An attribute that must be there and be a u64. -EBADMSG. */
int send_stream_u64(
    const struct send_command *c, unsigned attr, uint64_t *out, struct err *e);
/* One that must be there. -EBADMSG. */
int send_stream_attr(const struct send_command *c, unsigned attr,
    struct span *out, struct err *e);

#endif
