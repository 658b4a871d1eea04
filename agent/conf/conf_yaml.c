/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/conf/conf_yaml.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NESTED_MAX 100

static const char *
text_of(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

/* The line of byte `off`, from 1. */
static size_t
line_at(const char *text, size_t len, size_t off)
{
	size_t line = 1;

	for (size_t i = 0; i < len && i < off; i++)
		line += text[i] == '\n';
	return line;
}

/* Whether that line is indented with a tab, which YAML forbids. */
static bool
tab_indented(const char *text, size_t len, size_t line)
{
	size_t i = 0;

	for (size_t at = 1; at < line && i < len; i++)
		at += text[i] == '\n';
	while (i < len && text[i] == ' ')
		i++;
	return i < len && text[i] == '\t';
}

static int
syntax_error(const yaml_parser_t *p, const char *file, const char *text,
    size_t len, struct err *e)
{
	size_t line = p->problem_mark.line + 1;

	if (p->error == YAML_MEMORY_ERROR)
		return err_set(e, -ENOMEM, "%s: no memory to read it", file);
	/* A reader's error has an offset and no line. */
	if (p->error == YAML_READER_ERROR)
		line = line_at(text, len, p->problem_offset);
	err_set(e, -EINVAL, "%s:%zu: not YAML: %s", file, line,
	    p->problem ? p->problem : "unknown");
	if (p->context != NULL && p->error != YAML_READER_ERROR)
		err_hint(e, "%s that begins in line %zu", p->context,
		    p->context_mark.line + 1);
	if (tab_indented(text, len, line))
		err_hint(e, "indent with spaces, not with tabs");
	return e->code;
}

static int
load(yaml_parser_t *p, struct conf_yaml *y, const char *text, size_t len,
    struct err *e)
{
	yaml_document_t next;
	yaml_node_t *root;
	size_t line;

	if (!yaml_parser_load(p, &y->doc))
		return syntax_error(p, y->file, text, len, e);
	if (yaml_document_get_root_node(&y->doc) == NULL) {
		yaml_document_delete(&y->doc);
		return err_set(e, -EINVAL,
		    "%s:1: empty; the least that it needs is 'repository: "
		    "{url: /var/backups/neap, encryption: none}' and 'jobs: "
		    "{app: {engine: sqlite, path: /srv/app/app.db}}'",
		    y->file);
	}
	if (!yaml_parser_load(p, &next)) {
		yaml_document_delete(&y->doc);
		return syntax_error(p, y->file, text, len, e);
	}
	root = yaml_document_get_root_node(&next);
	line = next.start_mark.line + 1;
	yaml_document_delete(&next);
	if (root != NULL) {
		yaml_document_delete(&y->doc);
		return err_set(e, -EINVAL,
		    "%s:%zu: a second document begins: a configuration is one",
		    y->file, line);
	}
	return 0;
}

/*
 * libyaml 0.2.5 takes time with the square of the open brackets (a mebibyte of
 * them: minutes), so they are counted first; those in texts count as well,
 * which a hundred leaves room for. 0, or the line where it is too deep.
 */
static size_t
too_deep(const char *text, size_t len)
{
	size_t depth = 0, line = 1;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			line++;
		else if (text[i] == '[' || text[i] == '{')
			depth++;
		else if ((text[i] == ']' || text[i] == '}') && depth > 0)
			depth--;
		if (depth > NESTED_MAX)
			return line;
	}
	return 0;
}

int
conf_yaml_parse(struct conf_yaml *y, const char *file, const char *text,
    size_t len, struct err *e)
{
	struct conf_yaml got = {.file = file};
	size_t deep = too_deep(text, len);
	yaml_parser_t p;
	int rc;

	if (deep > 0)
		return err_set(e, -EINVAL, "%s:%zu: more than %d open brackets",
		    file, deep, NESTED_MAX);
	if (!yaml_parser_initialize(&p))
		return err_set(e, -ENOMEM, "%s: no memory to read it", file);
	yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
	rc = load(&p, &got, text, len, e);
	yaml_parser_delete(&p);
	if (rc == 0)
		*y = got;
	return rc;
}

void
conf_yaml_fini(struct conf_yaml *y)
{
	if (y->file != NULL)
		yaml_document_delete(&y->doc);
	y->file = NULL;
}

struct conf_node
conf_yaml_root(struct conf_yaml *y)
{
	yaml_node_t *root = yaml_document_get_root_node(&y->doc);
	size_t line = root->start_mark.line + 1;

	return (struct conf_node){
	    .y = y, .node = root, .line = line, .key_line = line};
}

static const char *
kind_of(const struct conf_node *n)
{
	switch (n->node->type) {
	case YAML_MAPPING_NODE:
		return "a mapping";
	case YAML_SEQUENCE_NODE:
		return "a list";
	default:
		return "a single value";
	}
}

struct conf_node
conf_yaml_member(const struct conf_node *n, size_t i)
{
	const yaml_node_pair_t *pair = n->node->data.mapping.pairs.start + i;
	yaml_node_t *key = yaml_document_get_node(&n->y->doc, pair->key);
	yaml_node_t *value = yaml_document_get_node(&n->y->doc, pair->value);

	return (struct conf_node){.y = n->y,
	    .node = value,
	    .up = n,
	    .key = key->type == YAML_SCALAR_NODE ? text_of(key) : NULL,
	    .line = value->start_mark.line + 1,
	    .key_line = key->start_mark.line + 1};
}

int
conf_yaml_map(const struct conf_node *n, size_t *count, struct err *e)
{
	size_t k;

	if (n->node->type != YAML_MAPPING_NODE)
		return conf_yaml_error_key(n, e,
		    "%s, where a mapping of keys to values is wanted",
		    kind_of(n));
	k = (size_t)(n->node->data.mapping.pairs.top -
		     n->node->data.mapping.pairs.start);
	if (k > CONF_YAML_KEYS_MAX)
		return conf_yaml_error_key(
		    n, e, "%zu keys; at most %d", k, CONF_YAML_KEYS_MAX);
	for (size_t i = 0; i < k; i++) {
		struct conf_node m = conf_yaml_member(n, i);

		if (m.key == NULL)
			return conf_yaml_error_key(n, e,
			    "the key in line %zu is not a word", m.key_line);
		for (size_t j = 0; j < i; j++) {
			struct conf_node o = conf_yaml_member(n, j);

			assert(o.key != NULL);
			if (strcmp(m.key, o.key) == 0)
				return conf_yaml_error_key(&m, e,
				    "a second time; first in line %zu",
				    o.key_line);
		}
	}
	*count = k;
	return 0;
}

int
conf_yaml_list(const struct conf_node *n, size_t *count, struct err *e)
{
	size_t k;

	if (n->node->type != YAML_SEQUENCE_NODE)
		return conf_yaml_error_key(
		    n, e, "%s, where a list is wanted", kind_of(n));
	k = (size_t)(n->node->data.sequence.items.top -
		     n->node->data.sequence.items.start);
	if (k > CONF_YAML_KEYS_MAX)
		return conf_yaml_error_key(
		    n, e, "%zu elements; at most %d", k, CONF_YAML_KEYS_MAX);
	*count = k;
	return 0;
}

struct conf_node
conf_yaml_element(const struct conf_node *n, size_t i)
{
	yaml_node_item_t item = n->node->data.sequence.items.start[i];
	yaml_node_t *value = yaml_document_get_node(&n->y->doc, item);
	size_t line = value->start_mark.line + 1;

	return (struct conf_node){.y = n->y,
	    .node = value,
	    .up = n,
	    .index = i + 1,
	    .line = line,
	    .key_line = line};
}

int
conf_yaml_scalar(
    const struct conf_node *n, const char **text, bool *quoted, struct err *e)
{
	const char *s;
	bool plain;

	if (n->node->type != YAML_SCALAR_NODE)
		return conf_yaml_error_key(
		    n, e, "%s, where a single value is wanted", kind_of(n));
	s = text_of(n->node);
	plain = n->node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (plain && (*s == '\0' || !strcmp(s, "~") || !strcmp(s, "null")))
		return conf_yaml_error_key(
		    n, e, "has no value; leave the key out or give it one");
	if (strlen(s) != n->node->data.scalar.length)
		return conf_yaml_error(n, e, "has a NUL character");
	*text = s;
	if (quoted != NULL)
		*quoted = !plain;
	return 0;
}

/* "jobs.orders.check.queries[2]" into `out`; returns its length. */
static size_t
dotted(const struct conf_node *n, char *out, size_t size)
{
	size_t at;
	int k;

	if (n->up == NULL) {
		*out = '\0';
		return 0;
	}
	at = dotted(n->up, out, size);
	if (n->key == NULL && n->index > 0)
		k = snprintf(out + at, size - at, "[%zu]", n->index);
	else
		k = snprintf(out + at, size - at, "%s%.80s", at ? "." : "",
		    n->key ? n->key : "?");
	if (k < 0)
		return at;
	at += (size_t)k;
	return at < size ? at : size - 1;
}

static int
error_at(const struct conf_node *n, size_t line, struct err *e, const char *fmt,
    va_list ap)
{
	char text[1024], key[384];

	vsnprintf(text, sizeof text, fmt, ap);
	dotted(n, key, sizeof key);
	return err_set(e, -EINVAL, "%s:%zu: %s%s%s", n->y->file, line, key,
	    key[0] ? ": " : "", text);
}

int
conf_yaml_error(const struct conf_node *n, struct err *e, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = error_at(n, n->line, e, fmt, ap);
	va_end(ap);
	return rc;
}

int
conf_yaml_error_key(
    const struct conf_node *n, struct err *e, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = error_at(n, n->key_line, e, fmt, ap);
	va_end(ap);
	return rc;
}
