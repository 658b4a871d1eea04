/*
 * JSON documents, on jansson: parse with an error that names the place, read
 * checked members, print. Borrowed pointers live as long as the document.
 */
#ifndef NEAP_CORE_JDOC_H
#define NEAP_CORE_JDOC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

void jdoc_free_scope(json_t **j);
#define SCOPED_JSON __attribute__((cleanup(jdoc_free_scope)))

/* Gives; NULL with -EBADMSG and "line L, column C" in the text. */
json_t *jdoc_parse(struct span text, struct err *e);

/* Required members; -EBADMSG and the key where missing or of another type. */
int jdoc_get_str(
    const json_t *o, const char *key, const char **out, struct err *e);
int jdoc_get_u64(
    const json_t *o, const char *key, uint64_t *out, struct err *e);

/* Optional members with a default. */
const char *jdoc_str(const json_t *o, const char *key, const char *def);
int64_t jdoc_int(const json_t *o, const char *key, int64_t def);
bool jdoc_bool(const json_t *o, const char *key, bool def);

/*
 * Strings that may not be UTF-8 (file names): bytes outside UTF-8 become
 * U+FFFD in the JSON; give them in hex besides where they must come back.
 */
json_t *jdoc_new_str(const char *s);

char *jdoc_text(const json_t *j); /* indented, keys in order; gives */
char *jdoc_line(const json_t *j); /* one line; gives */

#endif
