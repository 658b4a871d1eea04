/*
 * Tables of keys: each section of the configuration is an array that says, for
 * each key, how its value is read and where in the struct it goes. Not for
 * other folders.
 */
#ifndef NEAP_CONF_CONF_KEY_H
#define NEAP_CONF_CONF_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/conf/conf_yaml.h"

struct conf_key;
/* Reads `n` into `field`, whose type is the reader's own. */
typedef int conf_key_read(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e);

struct conf_key {
	const char *name;
	size_t offset; /* of the field in the section's struct */
	conf_key_read *read;
	bool required;
	long min, max;            /* whole, decimal, duration_ms */
	const char *const *words; /* word */
	const struct conf_section *section;
};

struct conf_section {
	const struct conf_key *key;
	size_t keys;
};

/* A mapping into `base` by the table; unknown and missing keys are errors. */
int conf_key_section(const struct conf_node *n, const struct conf_section *s,
    void *base, struct err *e);

/* The readers. Texts replace what the field held (heap). */
conf_key_read conf_key_text;        /* char *: no control characters */
conf_key_read conf_key_path;        /* char *: absolute, no "." or ".." */
conf_key_read conf_key_word;        /* char *: one of `words` */
conf_key_read conf_key_schedule;    /* char *: see conf_schedule.h */
conf_key_read conf_key_user;        /* char *: could be a user's name */
conf_key_read conf_key_whole;       /* unsigned: min to max */
conf_key_read conf_key_decimal;     /* double: min to max */
conf_key_read conf_key_duration_ms; /* unsigned: "10s", "500ms", "2m" */
conf_key_read conf_key_bool;        /* bool: true or false */
conf_key_read conf_key_texts;       /* char **: a list of texts, not empty */
conf_key_read conf_key_subsection;  /* a struct: by `section` */

/* "did you mean 'x'? " into `e`'s hint, and the words that there are. */
int conf_key_hint(struct err *e, const char *what, const char *got,
    const char *const *words, size_t n);

#endif
