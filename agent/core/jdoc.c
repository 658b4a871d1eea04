/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/jdoc.h"

#include <errno.h>
#include <float.h>
#include <string.h>

#include "agent/core/mem.h"

void
jdoc_free_scope(json_t **j)
{
	json_decref(*j);
}

json_t *
jdoc_parse(struct span text, struct err *e)
{
	json_error_t je;
	json_t *j;

	/* jansson calls this wrong arguments, in line -1. */
	if (text.len == 0) {
		err_set(e, -EBADMSG, "JSON: there is no text");
		return NULL;
	}
	j = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
	if (j == NULL)
		err_set(e, -EBADMSG, "JSON, line %d, column %d: %s", je.line,
		    je.column, je.text);
	return j;
}

int
jdoc_get_str(const json_t *o, const char *key, const char **out, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_string(v))
		return err_set(e, -EBADMSG, "JSON: \"%s\" is %s", key,
		    v ? "not a string" : "missing");
	*out = json_string_value(v);
	return 0;
}

int
jdoc_get_u64(const json_t *o, const char *key, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return err_set(e, -EBADMSG, "JSON: \"%s\" is %s", key,
		    v ? "not a whole number from 0 up" : "missing");
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

const char *
jdoc_str(const json_t *o, const char *key, const char *def)
{
	const json_t *v = json_object_get(o, key);

	return json_is_string(v) ? json_string_value(v) : def;
}

int64_t
jdoc_int(const json_t *o, const char *key, int64_t def)
{
	const json_t *v = json_object_get(o, key);

	return json_is_integer(v) ? json_integer_value(v) : def;
}

bool
jdoc_bool(const json_t *o, const char *key, bool def)
{
	const json_t *v = json_object_get(o, key);

	return json_is_boolean(v) ? json_is_true(v) : def;
}

/* Length of the UTF-8 character at `s`, 0 where it is not one. */
static size_t
utf8_len(const unsigned char *s)
{
	static const unsigned min[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80             ? 1
		   : (s[0] & 0xe0) == 0xc0 ? 2
		   : (s[0] & 0xf0) == 0xe0 ? 3
		   : (s[0] & 0xf8) == 0xf0 ? 4
					   : 0;
	unsigned c;

	if (n < 2)
		return n;
	c = s[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < min[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return n;
}

json_t *
jdoc_new_str(const char *s)
{
	SCOPED_BUF struct buf b = {0};
	const unsigned char *p = (const unsigned char *)s;

	while (*p != '\0') {
		size_t n = utf8_len(p);

		if (n == 0) {
			buf_put(&b, "\xef\xbf\xbd", 3);
			p++;
		} else {
			buf_put(&b, p, n);
			p += n;
		}
	}
	buf_put_u8(&b, 0);
	return json_string((const char *)b.data);
}

/* Fifteen digits are the most that come back as they were written: 0.053, not
 * 0.052999999999999999. */
static char *
dump(const json_t *j, size_t flags)
{
	char *s = json_dumps(
	    j, flags | JSON_ENCODE_ANY | JSON_REAL_PRECISION(DBL_DIG));

	return s ? s : mem_str("null");
}

char *
jdoc_text(const json_t *j)
{
	return dump(j, JSON_INDENT(2));
}

char *
jdoc_line(const json_t *j)
{
	return dump(j, JSON_COMPACT);
}
