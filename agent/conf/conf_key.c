/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/conf/conf_key.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/conf/conf_schedule.h"
#include "agent/core/mem.h"

/* Longer words are no typing slips; it also bounds distance()'s row. */
#define WORD_MAX 32

/* Levenshtein's distance, one row at a time. */
static size_t
distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), row[WORD_MAX + 1];

	if (n > WORD_MAX || m > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[m];
}

static const char *
nearest(const char *got, const char *const *words, size_t n)
{
	const char *best = NULL;
	/* A third of the letters may be wrong: "hourli", "shedule". */
	size_t limit = strlen(got) / 3 + 1;

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(got, words[i]);

		if (d <= limit) {
			best = words[i];
			limit = d ? d - 1 : 0;
		}
	}
	return best;
}

int
conf_key_hint(struct err *e, const char *what, const char *got,
    const char *const *words, size_t n)
{
	const char *near = nearest(got, words, n);
	char list[512] = "";
	size_t at = 0;

	for (size_t i = 0; i < n && at < sizeof list; i++) {
		int k = snprintf(list + at, sizeof list - at, "%s%s",
		    i ? ", " : "", words[i]);

		at += k > 0 ? (size_t)k : 0;
	}
	if (near != NULL)
		return err_hint(
		    e, "did you mean '%s'? %s: %s", near, what, list);
	return err_hint(e, "%s: %s", what, list);
}

static int
unknown_key(
    const struct conf_node *m, const struct conf_section *s, struct err *e)
{
	const char *words[32];
	size_t n = 0;

	for (; n < s->keys && n < MEM_COUNT(words); n++)
		words[n] = s->key[n].name;
	conf_yaml_error_key(m, e, "unknown key");
	return conf_key_hint(e, "known keys", m->key, words, n);
}

static const struct conf_key *
find(const struct conf_section *s, const char *name)
{
	for (size_t i = 0; i < s->keys; i++)
		if (strcmp(s->key[i].name, name) == 0)
			return &s->key[i];
	return NULL;
}

static bool
has(const struct conf_node *n, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(conf_yaml_member(n, i).key, name) == 0)
			return true;
	return false;
}

int
conf_key_section(const struct conf_node *n, const struct conf_section *s,
    void *base, struct err *e)
{
	size_t count;
	int rc = conf_yaml_map(n, &count, e);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++) {
		struct conf_node m = conf_yaml_member(n, i);
		const struct conf_key *k = find(s, m.key);

		if (k == NULL)
			return unknown_key(&m, s, e);
		rc = k->read(&m, k, (char *)base + k->offset, e);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < s->keys; i++)
		if (s->key[i].required && !has(n, count, s->key[i].name))
			return conf_yaml_error_key(
			    n, e, "the key '%s' is missing", s->key[i].name);
	return 0;
}

int
conf_key_subsection(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	return conf_key_section(n, k->section, field, e);
}

static void
set_text(void *field, const char *s)
{
	char **p = field;

	free(*p);
	*p = mem_str(s);
}

int
conf_key_text(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const char *s;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	(void)k;
	if (rc < 0)
		return rc;
	if (*s == '\0')
		return conf_yaml_error(n, e, "is empty");
	for (const char *c = s; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return conf_yaml_error(n, e, "has a control character");
	set_text(field, s);
	return 0;
}

/* A component "." or ".." would make two texts of one place. */
static bool
clean_path(const char *s)
{
	for (const char *c = s; *c != '\0';) {
		size_t len;

		c += strspn(c, "/");
		len = strcspn(c, "/");
		if ((len == 1 && c[0] == '.') ||
		    (len == 2 && c[0] == '.' && c[1] == '.'))
			return false;
		c += len;
	}
	return true;
}

int
conf_key_path(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	SCOPED_FREE char *s = NULL;
	int rc = conf_key_text(n, k, &s, e);

	if (rc < 0)
		return rc;
	assert(s != NULL);
	if (*s != '/')
		return conf_yaml_error(
		    n, e, "'%s' is not an absolute path; begin it with /", s);
	if (!clean_path(s))
		return conf_yaml_error(n, e,
		    "'%s' has a '.' or '..' in it; name the place itself", s);
	set_text(field, s);
	return 0;
}

int
conf_key_word(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const char *s;
	size_t count = 0;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	if (rc < 0)
		return rc;
	for (; k->words[count] != NULL; count++)
		if (strcmp(k->words[count], s) == 0) {
			set_text(field, s);
			return 0;
		}
	conf_yaml_error(n, e, "'%s' is not a known %s", s, k->name);
	return conf_key_hint(e, "there are", s, k->words, count);
}

int
conf_key_schedule(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	struct err why = ERR_NONE;
	const char *s;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	(void)k;
	if (rc < 0)
		return rc;
	if (conf_schedule_check(s, &why) < 0)
		return conf_yaml_error(n, e, "%s", why.text);
	set_text(field, s);
	return 0;
}

int
conf_key_user(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const char *s;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	(void)k;
	if (rc < 0)
		return rc;
	/* What passwd(5) cannot hold, plus what is a slip in any case. */
	if (*s == '\0' || *s == '-' || strpbrk(s, ":/ \t\r\n") != NULL ||
	    strlen(s) > WORD_MAX)
		return conf_yaml_error(n, e, "'%s' is not a user's name", s);
	set_text(field, s);
	return 0;
}

/* A scalar without quotes: numbers and booleans. */
static int
plain(const struct conf_node *n, const char *wanted, const char **s,
    struct err *e)
{
	bool quoted;
	int rc = conf_yaml_scalar(n, s, &quoted, e);

	if (rc < 0)
		return rc;
	if (quoted)
		return conf_yaml_error(n, e,
		    "'%s' in quotes is a text, where %s is wanted", *s, wanted);
	return 0;
}

/* Decimal digits up to `max`, nothing else. */
static bool
digits(const char *s, size_t len, long max, long *out)
{
	long v = 0;

	if (len == 0 || len > 9)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (s[i] - '0');
	}
	if (v > max)
		return false;
	*out = v;
	return true;
}

int
conf_key_whole(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	char wanted[64];
	const char *s;
	long v;
	int rc;

	snprintf(wanted, sizeof wanted, "a whole number from %ld to %ld",
	    k->min, k->max);
	rc = plain(n, wanted, &s, e);
	if (rc < 0)
		return rc;
	if (!digits(s, strlen(s), k->max, &v) || v < k->min)
		return conf_yaml_error(n, e, "'%s' is not %s", s, wanted);
	*(unsigned *)field = (unsigned)v;
	return 0;
}

int
conf_key_decimal(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	char wanted[64], *end;
	const char *s;
	double v;
	int rc;

	snprintf(
	    wanted, sizeof wanted, "a number from %ld to %ld", k->min, k->max);
	rc = plain(n, wanted, &s, e);
	if (rc < 0)
		return rc;
	/* strtod would take "inf", "nan", "0x1" and blanks as well. */
	v = strtod(s, &end);
	if (strspn(s, "0123456789.") != strlen(s) || end == s || *end != '\0' ||
	    v < (double)k->min || v > (double)k->max)
		return conf_yaml_error(n, e, "'%s' is not %s", s, wanted);
	*(double *)field = v;
	return 0;
}

int
conf_key_duration_ms(const struct conf_node *n, const struct conf_key *k,
    void *field, struct err *e)
{
	static const struct {
		const char *unit;
		long ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}};
	const char *s;
	size_t len;
	long v;
	int rc = conf_yaml_scalar(n, &s, NULL, e);

	if (rc < 0)
		return rc;
	len = strspn(s, "0123456789");
	for (size_t i = 0; i < MEM_COUNT(units); i++)
		if (strcmp(s + len, units[i].unit) == 0 &&
		    digits(s, len, k->max / units[i].ms, &v) &&
		    v * units[i].ms >= k->min) {
			*(unsigned *)field = (unsigned)(v * units[i].ms);
			return 0;
		}
	return conf_yaml_error(n, e,
	    "'%s' is not a time from %ldms to %lds, such as 500ms, 10s or 2m",
	    s, k->min, k->max / 1000);
}

int
conf_key_bool(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	const char *s;
	int rc = plain(n, "true or false", &s, e);

	(void)k;
	if (rc < 0)
		return rc;
	if (strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
		return conf_yaml_error(n, e, "'%s' is not true or false", s);
	*(bool *)field = s[0] == 't';
	return 0;
}

int
conf_key_texts(const struct conf_node *n, const struct conf_key *k, void *field,
    struct err *e)
{
	char ***out = field;
	size_t count;
	int rc = conf_yaml_list(n, &count, e);

	(void)k;
	if (rc < 0)
		return rc;
	if (count == 0)
		return conf_yaml_error_key(
		    n, e, "an empty list; leave the key out");
	*out = mem_array(count + 1, sizeof **out);
	for (size_t i = 0; i < count; i++) {
		struct conf_node m = conf_yaml_element(n, i);
		const char *s;

		rc = conf_yaml_scalar(&m, &s, NULL, e);
		if (rc < 0)
			return rc;
		if (s[strspn(s, " \t\r\n")] == '\0')
			return conf_yaml_error(&m, e, "is empty");
		(*out)[i] = mem_str(s);
	}
	return 0;
}
