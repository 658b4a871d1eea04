/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
	va_list ap;
	size_t n;

	assert(errnum > 0);
	e->code = -errnum;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof e->text - n, ": %s",
	    strerrordesc_np(errnum));
	return -errnum;
}

int
err_wrap(struct err *e, const char *fmt, ...)
{
	char head[ERR_TEXT_MAX];
	char tail[ERR_TEXT_MAX];
	va_list ap;

	assert(e->code < 0);
	va_start(ap, fmt);
	vsnprintf(head, sizeof head, fmt, ap);
	va_end(ap);
	memcpy(tail, e->text, sizeof tail);
	/* Cut rather than fail: an error text must never be an error. */
	snprintf(e->text, sizeof e->text, "%.700s: %.800s", head, tail);
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
