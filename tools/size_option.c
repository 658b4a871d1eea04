/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/size_option.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
size_option(uint64_t *out, const char *text, struct err *e)
{
	static const char units[] = "kMGT";
	unsigned shift = 0;
	char *end;
	const char *u;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || errno != 0 || n == 0)
		return err_set(e, -EINVAL, "'%s' is not a size", text);
	if (*end != '\0') {
		u = strchr(units, *end == 'K' ? 'k' : *end);
		if (u == NULL || end[1] != '\0')
			return err_set(e, -EINVAL,
			    "'%s' is not a size: "
			    "units are k, M, G, T",
			    text);
		shift = 10u * (unsigned)(u - units + 1);
	}
	if (n > (UINT64_MAX >> 1) >> shift)
		return err_set(e, -EINVAL, "'%s' is too large", text);
	*out = (uint64_t)n << shift;
	return 0;
}
