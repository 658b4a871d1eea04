/* SPDX-License-Identifier: Apache-2.0 */
/* JSON documents: what is refused, and by which words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

static json_t *
parsed(const char *text)
{
	struct err e = ERR_NONE;
	json_t *j = jdoc_parse(span_str(text), &e);

	if (j == NULL)
		fail_msg("%s", e.text);
	return j;
}

static void
test_a_fault_has_a_place(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_null(jdoc_parse(span_str("{\n \"a\": x}"), &e));
	assert_int_equal(e.code, -EBADMSG);
	assert_non_null(strstr(e.text, "JSON, line 2, column "));
}

static void
test_texts_that_are_no_document(void **state)
{
	static const char *const t[] = {"", " ", "{", "{} {}", "1",
	    "{\"a\": 1, \"a\": 2}", "{\"a\": 99999999999999999999}",
	    "{\"a\": \"\xff\"}", "{\"a\": \"\\u0000\"}"};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		struct err e = ERR_NONE;

		if (jdoc_parse(span_str(t[i]), &e) != NULL)
			fail_msg("'%s' was taken", t[i]);
		assert_int_equal(e.code, -EBADMSG);
	}
}

static void
test_no_bytes_are_no_document(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_null(jdoc_parse(SPAN(NULL, 0), &e));
	assert_string_equal(e.text, "JSON: there is no text");
}

/* A parser without a limit ends at the end of its stack. */
static void
test_nesting_has_a_limit(void **state)
{
	char deep[100001];
	struct err e = ERR_NONE;

	(void)state;
	memset(deep, '[', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	assert_null(jdoc_parse(span_str(deep), &e));
	assert_int_equal(e.code, -EBADMSG);
}

static void
test_required_members(void **state)
{
	SCOPED_JSON json_t *j = parsed("{\"s\": \"x\", \"n\": 7, \"m\": -1}");
	struct err e = ERR_NONE;
	const char *s = NULL;
	uint64_t n = 42;

	(void)state;
	assert_int_equal(jdoc_get_str(j, "s", &s, &e), 0);
	assert_string_equal(s, "x");
	assert_int_equal(jdoc_get_u64(j, "m", &n, &e), -EBADMSG);
	assert_string_equal(
	    e.text, "JSON: \"m\" is not a whole number from 0 up");
	assert_int_equal(n, 42);
	assert_int_equal(jdoc_get_u64(j, "n", &n, &e), 0);
	assert_int_equal(n, 7);
	assert_int_equal(jdoc_get_str(j, "n", &s, &e), -EBADMSG);
	assert_string_equal(e.text, "JSON: \"n\" is not a string");
	assert_int_equal(jdoc_get_str(j, "z", &s, &e), -EBADMSG);
	assert_string_equal(e.text, "JSON: \"z\" is missing");
}

static void
test_members_of_what_is_no_object(void **state)
{
	SCOPED_JSON json_t *j = parsed("[1]");
	struct err e = ERR_NONE;
	uint64_t n;

	(void)state;
	assert_int_equal(jdoc_get_u64(j, "n", &n, &e), -EBADMSG);
	assert_int_equal(jdoc_get_u64(NULL, "n", &n, &e), -EBADMSG);
	assert_int_equal(jdoc_int(NULL, "n", 3), 3);
}

static void
test_optional_members(void **state)
{
	SCOPED_JSON json_t *j =
	    parsed("{\"s\": \"x\", \"n\": -7, \"t\": true, \"f\": false}");

	(void)state;
	assert_string_equal(jdoc_str(j, "s", "d"), "x");
	assert_string_equal(jdoc_str(j, "n", "d"), "d");
	assert_null(jdoc_str(j, "z", NULL));
	assert_int_equal(jdoc_int(j, "n", 1), -7);
	assert_int_equal(jdoc_int(j, "s", 1), 1);
	assert_true(jdoc_bool(j, "t", false));
	assert_false(jdoc_bool(j, "f", true));
	assert_true(jdoc_bool(j, "n", true));
}

static void
test_strings_that_are_not_utf8(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
	    {"plain", "plain"},
	    {"gr\xc3\xbcn \xe2\x82\xac \xf0\x9f\x90\x98",
		"gr\xc3\xbcn \xe2\x82\xac \xf0\x9f\x90\x98"},
	    {"\xff", "\xef\xbf\xbd"},
	    {"a\xc3", "a\xef\xbf\xbd"},
	    /* overlong, a surrogate, above U+10FFFF, a lone tail */
	    {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xf4\x90\x80\x80",
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\x80z", "\xef\xbf\xbdz"},
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		SCOPED_JSON json_t *j = jdoc_new_str(t[i].in);

		assert_non_null(j);
		assert_string_equal(json_string_value(j), t[i].out);
	}
}

static void
test_print_keeps_the_order(void **state)
{
	SCOPED_JSON json_t *j = parsed("{\"z\": 1, \"a\": [true, null]}");
	SCOPED_FREE char *line = jdoc_line(j);
	SCOPED_FREE char *text = jdoc_text(j);

	(void)state;
	assert_string_equal(line, "{\"z\":1,\"a\":[true,null]}");
	assert_string_equal(
	    text, "{\n  \"z\": 1,\n  \"a\": [\n    true,\n    null\n  ]\n}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_fault_has_a_place),
	    cmocka_unit_test(test_texts_that_are_no_document),
	    cmocka_unit_test(test_no_bytes_are_no_document),
	    cmocka_unit_test(test_nesting_has_a_limit),
	    cmocka_unit_test(test_required_members),
	    cmocka_unit_test(test_members_of_what_is_no_object),
	    cmocka_unit_test(test_optional_members),
	    cmocka_unit_test(test_strings_that_are_not_utf8),
	    cmocka_unit_test(test_print_keeps_the_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
