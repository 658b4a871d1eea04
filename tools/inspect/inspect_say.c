/* SPDX-License-Identifier: Apache-2.0 */
/* What is found, as lines of text at once or gathered into a document. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "tools/inspect/inspect.h"

/* Names come from the file: nothing of them may drive a terminal. */
static void
print_text(const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		if (*p < 0x20 || *p == 0x7f || *p == '\\')
			printf("\\%03o", *p);
		else
			putchar(*p);
	}
}

static void
print_value(const json_t *v)
{
	SCOPED_FREE char *text = jdoc_line(v);

	if (json_is_string(v))
		print_text(json_string_value(v));
	else
		printf("%s", text);
}

static void
print_document(const json_t *v)
{
	SCOPED_FREE char *text = jdoc_text(v);
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save))
		printf("    %s\n", line);
}

void
inspect_say(struct inspect *in, const char *name, json_t *v)
{
	if (in->doc != NULL) {
		json_object_set_new(in->doc, name, v);
		return;
	}
	if (json_is_object(v) || json_is_array(v)) {
		printf("  %s\n", name);
		print_document(v);
	} else {
		printf("  %-16s ", name);
		print_value(v);
		putchar('\n');
	}
	json_decref(v);
}

void
inspect_say_str(struct inspect *in, const char *name, const char *v)
{
	inspect_say(in, name, jdoc_new_str(v));
}

/* Numbers above 2^63 - 1 only come from damage: JSON has them as text. */
static json_t *
number(uint64_t v)
{
	char text[24];

	if (v <= INT64_MAX)
		return json_integer((json_int_t)v);
	snprintf(text, sizeof text, "%llu", (unsigned long long)v);
	return json_string(text);
}

void
inspect_say_int(struct inspect *in, const char *name, uint64_t v)
{
	inspect_say(in, name, number(v));
}

static char *
hex_of(const void *p, size_t n)
{
	char *hex = mem_new(2 * n + 1);

	bytes_hex(hex, p, n);
	return hex;
}

void
inspect_say_hex(struct inspect *in, const char *name, const void *p, size_t n)
{
	SCOPED_FREE char *hex = hex_of(p, n);

	inspect_say(in, name, json_string(hex));
}

void
inspect_put_hex(json_t *row, const char *name, const void *p, size_t n)
{
	SCOPED_FREE char *hex = hex_of(p, n);

	json_object_set_new(row, name, json_string(hex));
}

void
inspect_put_bytes(json_t *row, const char *name, struct span s)
{
	SCOPED_FREE char *text = mem_strn(s.data, s.len);
	SCOPED_FREE char *hex_name = mem_printf("%s_hex", name);
	json_t *v = jdoc_new_str(text);

	json_object_set_new(row, name, v);
	if (strcmp(json_string_value(v), text) != 0)
		inspect_put_hex(row, hex_name, s.data, s.len);
}

void
inspect_row(struct inspect *in, json_t *row)
{
	const char *name;
	json_t *v, *rows;

	if (in->doc != NULL) {
		rows = json_object_get(in->doc, "list");
		if (rows == NULL) {
			rows = json_array();
			json_object_set_new(in->doc, "list", rows);
		}
		json_array_append_new(rows, row);
		return;
	}
	printf("   ");
	json_object_foreach (row, name, v) {
		printf(" %s ", name);
		print_value(v);
	}
	putchar('\n');
	json_decref(row);
}
