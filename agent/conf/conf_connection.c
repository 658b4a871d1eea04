/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a hook reaches its server. For the engines whose hooks come with neap
 * the keys are known and have types; for a program of the user's they are free.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/conf/conf_parts.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

enum type { TEXT, PATH, PORT };

struct key {
	const char *name;
	enum type type;
};

static const struct key postgresql_keys[] = {
    {"socket", PATH},
    {"host", TEXT},
    {"port", PORT},
    {"user", TEXT},
    {"database", TEXT},
    {"passfile", PATH},
    {"bindir", PATH},
};

static const struct engine {
	const char *name;
	const struct key *key;
	size_t keys;
} engines[] = {
    {"postgresql", postgresql_keys, MEM_COUNT(postgresql_keys)},
};

static int
unknown(const struct conf_node *m, const struct engine *g, struct err *e)
{
	const char *words[MEM_COUNT(postgresql_keys)];
	size_t n = 0;

	for (; n < g->keys && n < MEM_COUNT(words); n++)
		words[n] = g->key[n].name;
	conf_yaml_error_key(m, e, "unknown key");
	return conf_key_hint(e, "known keys", m->key, words, n);
}

static int
typed(const struct conf_node *m, enum type type, json_t **out, struct err *e)
{
	static const struct conf_key port = {.min = 1, .max = 65535};
	SCOPED_FREE char *s = NULL;
	unsigned v;
	int rc;

	if (type == PORT) {
		rc = conf_key_whole(m, &port, &v, e);
		if (rc == 0)
			*out = json_integer(v);
		return rc;
	}
	rc = type == PATH ? conf_key_path(m, NULL, &s, e)
			  : conf_key_text(m, NULL, &s, e);
	if (rc == 0)
		*out = json_string(s);
	return rc;
}

static int
known(const struct conf_node *m, const struct engine *g, json_t **out,
    struct err *e)
{
	for (size_t i = 0; i < g->keys; i++)
		if (strcmp(g->key[i].name, m->key) == 0)
			return typed(m, g->key[i].type, out, e);
	return unknown(m, g, e);
}

/* A text, or without quotes and all digits: a number. */
static int
free_value(const struct conf_node *m, json_t **out, struct err *e)
{
	const char *s;
	bool quoted;
	size_t len;
	int rc = conf_yaml_scalar(m, &s, &quoted, e);

	if (rc < 0)
		return rc;
	len = strlen(s);
	if (!quoted && len <= 15 && strspn(s, "0123456789") == len &&
	    (s[0] != '0' || len == 1))
		*out = json_integer(strtoll(s, NULL, 10));
	else
		*out = json_string(s);
	return 0;
}

int
conf_connection_parse(
    const struct conf_node *n, const char *engine, json_t **out, struct err *e)
{
	SCOPED_JSON json_t *o = json_object();
	const struct engine *g = NULL;
	size_t count;
	int rc = conf_yaml_map(n, &count, e);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < MEM_COUNT(engines); i++)
		if (strcmp(engines[i].name, engine) == 0)
			g = &engines[i];
	for (size_t i = 0; i < count; i++) {
		struct conf_node m = conf_yaml_member(n, i);
		json_t *value = NULL;

		rc = g != NULL ? known(&m, g, &value, e)
			       : free_value(&m, &value, e);
		if (rc < 0)
			return rc;
		if (json_object_set_new(o, m.key, value) < 0)
			return conf_yaml_error(&m, e, "is not text");
	}
	*out = TAKE(o);
	return 0;
}
