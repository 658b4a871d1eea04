/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/hooks/serve.h"

static const char *const words[] = {
    [REPORT_PASSED] = "passed",
    [REPORT_FAILED] = "failed",
    [REPORT_SKIPPED] = "skipped",
    [REPORT_COULD_NOT] = "could-not-run",
};

void
report_init(struct report *r, const char *engine)
{
	*r = (struct report){.doc = json_object(), .steps = json_array()};
	json_object_set_new(r->doc, "state", json_string("could-not-check"));
	json_object_set_new(r->doc, "engine", json_string(engine));
	json_object_set_new(r->doc, "steps", r->steps);
	report_start(r);
}

void
report_fini(struct report *r)
{
	json_decref(r->doc);
}

void
report_start(struct report *r)
{
	r->step_ms = clock_mono_ms();
}

void
report_step(struct report *r, const char *name, enum report_result result,
    const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	json_t *o = json_object();
	bool bad = result == REPORT_FAILED || result == REPORT_COULD_NOT;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	json_object_set_new(o, "name", jdoc_new_str(name));
	json_object_set_new(o, "result", json_string(words[result]));
	json_object_set_new(o, "detail", jdoc_new_str(text));
	json_object_set_new(
	    o, "ms", json_integer(clock_mono_ms() - r->step_ms));
	json_array_append_new(r->steps, o);
	/* A found damage outranks what could not be looked at. */
	if (bad &&
	    (r->first[0] == '\0' || (result == REPORT_FAILED && !r->failed)))
		snprintf(
		    r->first, sizeof r->first, "%.100s: %.400s", name, text);
	r->failed |= result == REPORT_FAILED;
	r->unchecked |= result == REPORT_COULD_NOT;
	report_start(r);
}

void
report_error(struct report *r, const char *name, const struct err *e)
{
	report_step(r, name,
	    e->code == -EBADMSG ? REPORT_FAILED : REPORT_COULD_NOT, "%s",
	    e->text);
}

int
report_end(struct report *r, struct err *e)
{
	const char *state = r->failed      ? "failed"
			    : r->unchecked ? "could-not-check"
					   : "passed";

	json_object_set_new(r->doc, "state", json_string(state));
	if (serve_print(r->doc, e) < 0)
		return e->code;
	if (r->failed)
		return err_set(e, -EBADMSG, "%s", r->first);
	if (r->unchecked)
		return err_set(e, -ENODATA, "%s", r->first);
	return 0;
}
