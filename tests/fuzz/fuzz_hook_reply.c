/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hook says: a byte for its exit status, then its lines. The process
 * itself is played by the functions below, which stand in for process.c's, so
 * that no program is started.
 */
#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/core/process.h"
#include "agent/hooks/client.h"
#include "agent/hooks/contract.h"
#include "tests/fuzz/fuzz.h"

static const char *said; /* what is left of the output */
static int exit_status;

int
process_start(struct process *p, const struct process_how *how, struct err *e)
{
	(void)how;
	(void)e;
	*p = (struct process)PROCESS_NONE;
	p->pid = 1;
	return 0;
}

int
process_line(struct process *p, int64_t deadline_ms, char **line, struct err *e)
{
	size_t n = strcspn(said, "\n");

	(void)p;
	(void)deadline_ms;
	if (said[n] == '\0')
		return err_set(e, -EPIPE, "no more lines");
	*line = mem_strn(said, n);
	said += n + 1;
	return 0;
}

int
process_write(struct process *p, const void *data, size_t n, struct err *e)
{
	(void)p;
	(void)data;
	(void)n;
	(void)e;
	return 0;
}

void
process_close_stdin(struct process *p)
{
	(void)p;
}

int
process_wait(struct process *p, int64_t deadline_ms, int *status, struct err *e)
{
	(void)deadline_ms;
	(void)e;
	buf_put(&p->stdout_text, said, strlen(said));
	*status = exit_status;
	return 0;
}

void
process_end(struct process *p, int64_t grace_ms)
{
	(void)grace_ms;
	p->pid = -1;
}

void
process_fini(struct process *p)
{
	buf_free(&p->stdout_text);
	buf_free(&p->stderr_text);
	p->pid = -1;
}

int
process_run(struct process *p, const struct process_how *how,
    int64_t timeout_ms, int *status, struct err *e)
{
	process_start(p, how, e);
	return process_wait(p, timeout_ms, status, e);
}

const char *
process_complaint(struct process *p)
{
	(void)p;
	return "no message";
}

static void
probe(const struct hook_how *how)
{
	SCOPED_JSON json_t *doc = NULL;
	struct err e = ERR_NONE;
	const char *path;
	const json_t *v;
	size_t i;

	if (hook_probe(how, 0, &doc, &e) < 0) {
		MUST(doc == NULL && e.text[0] != '\0');
		return;
	}
	json_array_foreach (json_object_get(doc, "paths"), i, v)
		MUST(jdoc_get_str(v, "path", &path, &e) == 0 && path[0] == '/');
	json_array_foreach (json_object_get(doc, "refuse"), i, v)
		MUST(json_is_string(v));
}

static void
hold(const struct hook_how *how)
{
	SCOPED_JSON json_t *quiesced = NULL, *released = NULL;
	struct hook_session *s = NULL;
	struct err e = ERR_NONE;
	int rc;

	if (hook_quiesce(&s, how, 0, 60000, &quiesced, &e) < 0) {
		MUST(quiesced == NULL);
		return;
	}
	MUST(jdoc_str(quiesced, "level", NULL) != NULL);
	rc = hook_release(s, &released, &e);
	MUST(rc != 0 || released != NULL);
	if (rc == 0 && strcmp(jdoc_str(quiesced, "level", ""), "unproven") != 0)
		MUST(jdoc_bool(released, "still_held", false));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_JSON json_t *config = json_object();
	struct hook_how how = {.program = "/hook",
	    .config = config,
	    .uid = (uid_t)-1,
	    .gid = (gid_t)-1,
	    .id = "docs-1"};
	SCOPED_FREE char *text = NULL;
	SCOPED_JSON json_t *report = NULL;
	struct err e = ERR_NONE;

	exit_status = (int)fuzz_u64(&data, &len, 1);
	text = mem_strn((const char *)data, len);
	said = text;
	probe(&how);
	said = text;
	hold(&how);
	said = text;
	hook_validate(&how, "/clone", "/run", 0, &report, &e);
	return 0;
}
