/*
 * neap-inspect: what a file of a repository, a key file or a file of a block
 * map holds, and whether it is whole.
 *
 * One function for each kind of file. It says what it finds as it goes (so
 * that of a damaged file all is shown that comes before the damage) and
 * returns
 *   0              whole, as far as the key at hand can tell
 *   -EBADMSG       damaged; the text names the offset
 *   -EKEYREJECTED  what only a key opens was not looked at, or no key fits
 *   anything else  it could not be read
 */
#ifndef NEAP_TOOLS_INSPECT_INSPECT_H
#define NEAP_TOOLS_INSPECT_INSPECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/store/keys.h"
#include "agent/store/repo.h"

#define INSPECT_HEAD 4096

struct inspect {
	const char *path;
	int fd;
	uint64_t len;
	uint8_t head[INSPECT_HEAD]; /* its beginning; zeros behind its end */
	struct repo *repo;          /* this file, whatever name is asked for */
	const struct keys *key;     /* of --key, or NULL */
	bool list;                  /* each entry, not only how many */
	json_t *doc;                /* what was said; NULL: it goes to stdout */
};

/* ---- saying (inspect_say.c); each takes over `v` ---- */

void inspect_say(struct inspect *in, const char *name, json_t *v);
void inspect_say_str(struct inspect *in, const char *name, const char *v);
void inspect_say_int(struct inspect *in, const char *name, uint64_t v);
void inspect_say_hex(
    struct inspect *in, const char *name, const void *p, size_t n);
/* An entry of a list; text and JSON have its members in this order. */
void inspect_row(struct inspect *in, json_t *row);
/* Members of a row. */
void inspect_put_hex(json_t *row, const char *name, const void *p, size_t n);
/* Bytes that may not be UTF-8: where they are not, NAME_hex is there too. */
void inspect_put_bytes(json_t *row, const char *name, struct span s);

/* ---- one file (inspect_file.c) ---- */

int inspect_open(struct inspect *in, const char *path, struct err *e);
void inspect_close(struct inspect *in);
/*
 * The keys that open what a header with `encrypted` announces: none where
 * nothing is encrypted, else in->key. -EKEYREJECTED: there is none, or it is
 * not of the repository that the file lies in.
 */
int inspect_keys(
    struct inspect *in, bool encrypted, struct keys *out, struct err *e);
/* A file whose name is an id: the name and the header's id must agree. */
int inspect_check_name(struct inspect *in, const uint8_t id[16], struct err *e);
/* The last `n` components of the file's absolute path; gives, or NULL. */
char *inspect_tail(const struct inspect *in, unsigned n);

/* ---- the kinds ---- */

int inspect_neap_json(struct inspect *in, struct err *e);
int inspect_key_file(struct inspect *in, struct err *e);
int inspect_pack(struct inspect *in, struct err *e);
int inspect_table(struct inspect *in, struct err *e);
int inspect_doc(struct inspect *in, struct err *e);
int inspect_objects(struct inspect *in, struct err *e);
int inspect_hashes(struct inspect *in, struct err *e);
int inspect_redo(struct inspect *in, struct err *e);

#endif
