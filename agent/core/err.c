/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HEAD_KEPT ((size_t)300) /* of a context, where not all has room */

int
err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	assert(code < 0);
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	return code;
}

int
err_sys(struct err *e, int errnum, const char *fmt, ...)
{
	const char *desc = strerrordesc_np(errnum);
	char why[96];
	va_list ap;
	size_t n;

	assert(errnum > 0);
	if (desc != NULL)
		snprintf(why, sizeof why, ": %s", desc);
	else
		snprintf(why, sizeof why, ": error %d", errnum);
	e->code = -errnum;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text - strlen(why), fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	memcpy(e->text + n, why, strlen(why) + 1);
	return -errnum;
}

/*
 * Cut rather than fail: an error text must never be an error. The cause and
 * what to do stand at the end and the outermost context at the beginning, so
 * what is cut lies between.
 */
int
err_wrap(struct err *e, const char *fmt, ...)
{
	char head[ERR_TEXT_MAX], tail[ERR_TEXT_MAX];
	const size_t room = sizeof e->text - sizeof ": ";
	size_t h, t, skip;
	va_list ap;

	assert(e->code < 0);
	va_start(ap, fmt);
	vsnprintf(head, sizeof head, fmt, ap);
	va_end(ap);
	memcpy(tail, e->text, sizeof tail);
	h = strlen(head);
	t = strlen(tail);
	if (h + t > room && h > HEAD_KEPT)
		h = t < room - HEAD_KEPT ? room - t : HEAD_KEPT;
	skip = h + t > room ? h + t - room : 0;
	memcpy(e->text, head, h);
	memcpy(e->text + h, ": ", 2);
	memcpy(e->text + h + 2, tail + skip, t - skip + 1);
	return e->code;
}

int
err_hint(struct err *e, const char *fmt, ...)
{
	size_t n = strlen(e->text);
	va_list ap;
	int k;

	assert(e->code < 0);
	k = snprintf(e->text + n, sizeof e->text - n, " (");
	if (k < 0 || n + (size_t)k >= sizeof e->text)
		return e->code;
	n += (size_t)k;
	va_start(ap, fmt);
	vsnprintf(e->text + n, sizeof e->text - n, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof e->text - n, ")");
	return e->code;
}

int
err_clear(struct err *e)
{
	e->code = 0;
	e->text[0] = '\0';
	return 0;
}

int
err_copy(struct err *to, const struct err *from)
{
	memcpy(to, from, sizeof *to);
	return to->code;
}

int
err_exit_status(int code)
{
	if (code >= 0)
		return 0;
	switch (-code) {
	case EINVAL:
		return 2;
	case EPERM:
	case EBUSY:
		return 3;
	case EBADMSG:
		return 4;
	case EKEYREJECTED:
		return 5;
	default:
		return 1;
	}
}
