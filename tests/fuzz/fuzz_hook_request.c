/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hook is asked, on its own side: up to nine arguments, each up to a
 * zero byte; the settings, up to a zero byte; then what comes on standard
 * input while it holds.
 */
#include <getopt.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/hooks/contract.h"
#include "agent/hooks/serve.h"
#include "tests/fuzz/fuzz.h"

#define ARGS_MAX 9

/* ---- a hook ---- */

static int
probe(const struct serve *s, struct err *e)
{
	SCOPED_JSON json_t *doc = json_pack("{s:[], s:[]}", "paths", "notes");
	const json_t *c = serve_connection(s);
	const char *path;
	int rc;

	MUST(json_is_object(s->config) && (c == NULL || json_is_object(c)));
	rc = serve_path(s, &path, e);
	if (rc < 0)
		return rc;
	MUST(path[0] == '/');
	serve_add_path(json_object_get(doc, "paths"), path, "data", false);
	serve_note(json_object_get(doc, "notes"), "%s %s", s->id, path);
	return serve_print(doc, e);
}

static int
quiesce(const struct serve *s, struct err *e)
{
	struct serve_hold h;
	int rc;

	MUST(s->deadline_ms >= 1 && s->deadline_ms <= 24 * 3600 * 1000);
	rc = serve_hold(&h, s, "protocol", NULL, NULL, e);
	MUST(rc == 0);
	/* What comes is there already; a shorter hold may end on a busy machine. */
	MUST(h.end != SERVE_DEADLINE || s->deadline_ms < 10000);
	return serve_released(&h, NULL, NULL, NULL, NULL, e);
}

static int
validate(const struct serve *s, struct err *e)
{
	SCOPED_FREE char *below = serve_clone_path(s, "/data");

	(void)e;
	MUST(s->clone[0] == '/' && s->run[0] == '/');
	MUST(strlen(below) >= strlen("/data"));
	return 0;
}

static int
dump(const struct serve *s, struct err *e)
{
	MUST(s->output[0] == '/');
	return validate(s, e);
}

static const struct serve_ops ops = {.engine = "fuzz",
    .probe = probe,
    .quiesce = quiesce,
    .validate = validate,
    .dump = dump};

/* ---- asking it ---- */

/* Up to the next zero byte; gives. */
static char *
take(const uint8_t **p, size_t *len)
{
	size_t n = strnlen((const char *)*p, *len);
	char *s = mem_strn((const char *)*p, n);

	*p += n;
	*len -= n;
	fuzz_u64(p, len, 1);
	return s;
}

static void
set_stdin(struct span bytes)
{
	SCOPED_FD int fd = memfd_create("stdin", MFD_CLOEXEC);

	MUST(write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len);
	MUST(lseek(fd, 0, SEEK_SET) == 0);
	MUST(dup2(fd, STDIN_FILENO) == STDIN_FILENO);
}

/* Each line is a document; what fails says why in one line. */
static void
judge(int status, const char *said, const char *complaint)
{
	while (*said != '\0') {
		size_t n = strcspn(said, "\n");
		struct err e = ERR_NONE;
		SCOPED_JSON json_t *j = jdoc_parse(SPAN(said, n), &e);

		MUST(json_is_object(j) && said[n] == '\n');
		said += n + 1;
	}
	MUST((status == HOOK_OK) == (complaint[0] == '\0'));
	MUST(complaint[0] == '\0' ||
	     strchr(complaint, '\n') == complaint + strlen(complaint) - 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	FILE *out = stdout, *err = stderr;
	char *argv[2 + ARGS_MAX] = {mem_str("hook")};
	char *owned[1 + ARGS_MAX] = {argv[0]};
	SCOPED_FREE char *config = NULL, *said = NULL, *complaint = NULL;
	size_t said_len, complaint_len;
	int argc = 1, status;

	while (argc <= ARGS_MAX && len > 0 && *data != '\0') {
		owned[argc] = argv[argc] = take(&data, &len);
		argc++;
	}
	fuzz_u64(&data, &len, 1);
	config = take(&data, &len);
	setenv(HOOK_ENV, config, 1);
	set_stdin(SPAN(data, len));
	optind = 0; /* getopt: from the start */
	stdout = open_memstream(&said, &said_len);
	stderr = open_memstream(&complaint, &complaint_len);
	status = serve_main(argc, argv, &ops);
	fclose(stdout);
	fclose(stderr);
	stdout = out;
	stderr = err;
	judge(status, said, complaint);
	for (int i = 0; i < argc; i++) /* getopt changes their order */
		free(owned[i]);
	return 0;
}
