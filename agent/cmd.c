/* SPDX-License-Identifier: Apache-2.0 */
/* What several commands share: opening the repository, and printing. */
#include "agent/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

int
cmd_open_store(const struct cmd *c, struct store *s, struct err *e)
{
	const struct conf *f = &c->conf;
	struct store_how how = {.url = f->repo_url,
	    .key_path = !f->encryption ? NULL
			: f->host_key  ? f->host_key
				       : f->recovery_key};

	return store_open(s, &how, e);
}

void
cmd_print_json(const json_t *j)
{
	SCOPED_FREE char *text = jdoc_text(j);

	puts(text);
}

const char *
cmd_local_time(char out[32], int64_t utc_s)
{
	time_t t = (time_t)utc_s;
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm);
	return out;
}

const char *
cmd_age(char out[32], int64_t seconds)
{
	static const struct {
		int64_t unit;
		const char *name;
	} units[] = {{86400, "days"}, {3600, "h"}, {60, "min"}, {1, "s"}};

	if (seconds < 0)
		seconds = 0;
	for (size_t i = 0; i < MEM_COUNT(units); i++)
		if (seconds >= 2 * units[i].unit || units[i].unit == 1) {
			snprintf(out, 32, "%lld %s",
			    (long long)(seconds / units[i].unit),
			    units[i].name);
			break;
		}
	return out;
}

char *
cmd_printable(const char *s)
{
	SCOPED_BUF struct buf b = {0};

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		char oct[8];

		if (*p >= 0x20 && *p != 0x7f) {
			buf_put_u8(&b, *p);
			continue;
		}
		snprintf(oct, sizeof oct, "\\%03o", *p);
		buf_put(&b, oct, 4);
	}
	buf_put_u8(&b, 0);
	return (char *)TAKE(b.data);
}
