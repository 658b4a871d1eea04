/*
 * A YAML file as checked nodes that know where they stand, so that every
 * complaint can say "FILE:LINE: jobs.orders.keep: …". A thin skin over
 * libyaml's document; aliases arrive resolved. Not for other folders.
 */
#ifndef NEAP_CONF_CONF_YAML_H
#define NEAP_CONF_CONF_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <yaml.h>

#include "agent/core/err.h"

#define CONF_YAML_KEYS_MAX 1000 /* of one mapping or list */

struct conf_yaml {
	const char *file; /* kept */
	yaml_document_t doc;
};

struct conf_node {
	struct conf_yaml *y;
	yaml_node_t *node;
	const struct conf_node *up; /* NULL: the root */
	const char *key;       /* NULL: the root, or an element of a list */
	size_t index;          /* of an element, from 1 */
	size_t line, key_line; /* of the value and of its key, from 1 */
};

/* Exactly one document; -EINVAL with the line where it is not that. */
int conf_yaml_parse(struct conf_yaml *y, const char *file, const char *text,
    size_t len, struct err *e);
void conf_yaml_fini(struct conf_yaml *y);
struct conf_node conf_yaml_root(struct conf_yaml *y);

/*
 * A mapping whose keys are plain words, each there once, and its members;
 * a list and its elements. The children borrow `n`.
 */
int conf_yaml_map(const struct conf_node *n, size_t *count, struct err *e);
struct conf_node conf_yaml_member(const struct conf_node *n, size_t i);
int conf_yaml_list(const struct conf_node *n, size_t *count, struct err *e);
struct conf_node conf_yaml_element(const struct conf_node *n, size_t i);

/* The text of a scalar, borrowed; *quoted (may be NULL): it stood in quotes. */
int conf_yaml_scalar(
    const struct conf_node *n, const char **text, bool *quoted, struct err *e);

/* -EINVAL with "FILE:LINE: dotted.key: " in front; _key: at the key's line. */
int conf_yaml_error(const struct conf_node *n, struct err *e, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));
int conf_yaml_error_key(const struct conf_node *n, struct err *e,
    const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
