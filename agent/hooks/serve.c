/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/serve.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/contract.h"

#define HOLD_DEFAULT_MS 10000
#define HOLD_MAX_MS (24 * 3600 * 1000LL)
#define TOOL_MAX_MS (30LL * 24 * 3600 * 1000)

static int
exit_status(int code)
{
	switch (-code) {
	case 0:
		return HOOK_OK;
	case EBUSY:
		return HOOK_BUSY;
	case EPERM:
		return HOOK_REFUSED;
	case EOPNOTSUPP:
		return HOOK_UNSUPPORTED;
	case EBADMSG:
		return HOOK_DAMAGE;
	case ENODATA:
		return HOOK_UNCHECKED;
	case EINVAL:
		return HOOK_USAGE;
	default:
		return HOOK_FAILED;
	}
}

/* ---- the command line ---- */

static int
parse_deadline(struct serve *s, const char *text, struct err *e)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || v < 1 ||
	    v > HOLD_MAX_MS)
		return err_set(e, -EINVAL,
		    "--deadline-ms %s: not a number "
		    "from 1 to %lld",
		    text, HOLD_MAX_MS);
	s->deadline_ms = v;
	return 0;
}

/* It comes back as JSON, so it has to be text; the agent's are "JOB-TIME". */
static int
parse_id(struct serve *s, const char *text, struct err *e)
{
	static const char known[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

	if (text[0] == '\0' || text[strspn(text, known)] != '\0')
		return err_set(e, -EINVAL,
		    "--id %s: only a-z A-Z 0-9 _ . - can be in it", text);
	s->id = text;
	return 0;
}

/* What getopt did not like, as '?' or ':'. */
static int
bad_option(int c, const char *word, struct err *e)
{
	if (c == ':')
		return err_set(e, -EINVAL, "%s: its value is missing", word);
	/* Of "-xy" it stands at a letter, not yet behind the word. */
	if (optopt != 0)
		return err_set(e, -EINVAL, "-%c: not an option", optopt);
	return err_set(e, -EINVAL, "%s: not an option", word);
}

static int
parse_options(struct serve *s, int argc, char **argv, struct err *e)
{
	static const struct option options[] = {
	    {"id", required_argument, NULL, 'i'},
	    {"deadline-ms", required_argument, NULL, 'd'},
	    {"hold-ms", required_argument, NULL, 'd'},
	    {"clone", required_argument, NULL, 'c'},
	    {"run", required_argument, NULL, 'r'},
	    {"output", required_argument, NULL, 'o'},
	    {"database", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0}};
	int c;

	/* argv[1] is the verb; getopt takes it for the program's name. */
	opterr = 0;
	while (
	    (c = getopt_long(argc - 1, argv + 1, ":", options, NULL)) != -1) {
		if (c == 'd' && parse_deadline(s, optarg, e) < 0)
			return e->code;
		if (c == 'i' && parse_id(s, optarg, e) < 0)
			return e->code;
		if (c == '?' || c == ':')
			return bad_option(c, argv[optind], e);
		if (c == 'c')
			s->clone = optarg;
		else if (c == 'r')
			s->run = optarg;
		else if (c == 'o')
			s->output = optarg;
		else if (c == 'b')
			s->database = optarg;
	}
	if (optind < argc - 1)
		return err_set(
		    e, -EINVAL, "%s: not an option", argv[optind + 1]);
	return 0;
}

static int
need_path(const char *option, const char *path, struct err *e)
{
	if (path == NULL)
		return err_set(e, -EINVAL, "%s is missing", option);
	if (path[0] != '/')
		return err_set(
		    e, -EINVAL, "%s %s: not an absolute path", option, path);
	return 0;
}

static int
load_config(struct serve *s, struct err *e)
{
	const char *text = getenv(HOOK_ENV);

	if (text == NULL)
		return err_set(e, -EINVAL,
		    HOOK_ENV " is not set: this program "
			     "is started by neap, see neap-hook(7)");
	s->config = jdoc_parse(span_str(text), e);
	if (s->config == NULL) {
		e->code = -EINVAL;
		return err_wrap(e, HOOK_ENV);
	}
	if (!json_is_object(s->config))
		return err_set(e, -EINVAL, HOOK_ENV ": not a JSON object");
	return 0;
}

static serve_verb *
verb_of(const struct serve *s, const struct serve_ops *ops, struct err *e)
{
	const struct {
		const char *name;
		serve_verb *verb;
		bool clone, output;
	} verbs[] = {
	    {"probe", ops->probe, false, false},
	    {"quiesce", ops->quiesce, false, false},
	    {"validate", ops->validate, true, false},
	    {"dump", ops->dump, true, true},
	};

	for (size_t i = 0; i < MEM_COUNT(verbs); i++) {
		if (strcmp(s->verb, verbs[i].name) != 0)
			continue;
		if (verbs[i].verb == NULL)
			err_set(e, -EOPNOTSUPP, "engine %s has no %s",
			    ops->engine, s->verb);
		else if (verbs[i].clone &&
			 (need_path("--clone", s->clone, e) < 0 ||
			     need_path("--run", s->run, e) < 0))
			return NULL;
		else if (verbs[i].output &&
			 need_path("--output", s->output, e) < 0)
			return NULL;
		return verbs[i].verb;
	}
	err_set(e, -EINVAL,
	    "%s: not a verb (probe, quiesce, stay, thaw, validate, dump)",
	    s->verb);
	return NULL;
}

/* ---- what the agent says ---- */

/* What came on standard input and was not a whole line yet. */
static struct {
	char buf[64];
	size_t len;
} input;

/* A whole line `word` in what has come; drops the lines before it. */
static bool
has_line(const char *word)
{
	char *nl;

	while ((nl = memchr(input.buf, '\n', input.len)) != NULL) {
		size_t n = (size_t)(nl - input.buf);
		bool yes = n == strlen(word) && memcmp(input.buf, word, n) == 0;

		memmove(input.buf, nl + 1, input.len - n - 1);
		input.len -= n + 1;
		if (yes)
			return true;
	}
	return false;
}

static enum serve_end
wait_for(const char *word, int64_t until_ms)
{
	while (!has_line(word)) {
		struct pollfd in = {STDIN_FILENO, POLLIN, 0};
		int64_t left = until_ms - clock_mono_ms();
		ssize_t n;

		if (left <= 0)
			return SERVE_DEADLINE;
		if (poll(&in, 1, left > INT_MAX ? INT_MAX : (int)left) <= 0)
			continue;
		if (input.len == sizeof input.buf)
			input.len = 0; /* no line of the contract is so long */
		n = read(STDIN_FILENO, input.buf + input.len,
		    sizeof input.buf - input.len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return SERVE_AGENT_GONE;
		input.len += (size_t)n;
	}
	return SERVE_RELEASED;
}

/* ---- the verbs ---- */

/* Between the two nothing is held. */
static int
stay(struct serve *s, const struct serve_ops *ops, struct err *e)
{
	static void *kept; /* reachable to the end */
	struct err ignored = ERR_NONE;
	int rc;

	kept = NULL;
	if (ops->thaw != NULL)
		ops->thaw(s, &ignored);
	s->kept = &kept;
	rc = ops->probe(s, e);
	if (rc < 0 || wait_for("QUIESCE", INT64_MAX) != SERVE_RELEASED)
		return rc;
	return ops->quiesce(s, e);
}

static int
thaw_nothing(const struct serve *s, struct err *e)
{
	(void)s;
	(void)e;
	return 0;
}

static int
serve(struct serve *s, int argc, char **argv, const struct serve_ops *ops,
    struct err *e)
{
	serve_verb *verb;

	if (argc < 2)
		return err_set(e, -EINVAL,
		    "usage: %s probe|quiesce|stay|thaw|validate|dump "
		    "[OPTION...], "
		    "see neap-hook(7)",
		    argv[0]);
	s->verb = argv[1];
	if (parse_options(s, argc, argv, e) < 0)
		return e->code;
	/* Letting go must work even where the settings are broken. */
	if (strcmp(s->verb, "thaw") == 0 && ops->thaw == NULL)
		verb = thaw_nothing;
	else if (load_config(s, e) < 0)
		return e->code;
	else if (strcmp(s->verb, "thaw") == 0)
		verb = ops->thaw;
	else if (strcmp(s->verb, "stay") == 0)
		return stay(s, ops, e);
	else
		verb = verb_of(s, ops, e);
	return verb == NULL ? e->code : verb(s, e);
}

int
serve_main(int argc, char **argv, const struct serve_ops *ops)
{
	struct serve s = {.id = "-", .deadline_ms = HOLD_DEFAULT_MS};
	struct err e = ERR_NONE;
	int rc;

	input.len = 0;
	rc = serve(&s, argc, argv, ops, &e);

	if (rc < 0) {
		/* The agent quotes the last line: keep it one. */
		for (char *c = e.text; *c != '\0'; c++)
			if (*c == '\n')
				*c = ' ';
		fprintf(stderr, "%s\n", e.text);
	}
	json_decref(s.config);
	return exit_status(rc);
}

int
serve_print(const json_t *doc, struct err *e)
{
	SCOPED_FREE char *line = jdoc_line(doc);

	if (printf("%s\n", line) < 0 || fflush(stdout) != 0)
		return err_sys(e, errno, "write to standard output");
	return 0;
}

/* ---- the hold ---- */

int
serve_hold(struct serve_hold *h, const struct serve *s, const char *level,
    json_t *position, json_t *notes, struct err *e)
{
	SCOPED_JSON json_t *doc = json_pack("{s:s, s:s, s:s}", "state",
	    "quiesced", "level", level, "token", s->id);

	json_object_set_new(
	    doc, "position", position != NULL ? position : json_object());
	if (notes != NULL)
		json_object_set_new(doc, "notes", notes);
	h->since_ms = clock_mono_ms();
	if (serve_print(doc, e) < 0)
		return e->code;
	h->end = wait_for("RELEASE", h->since_ms + s->deadline_ms);
	h->until_ms = clock_mono_ms();
	return 0;
}

int
serve_released(const struct serve_hold *h, const char *lost, json_t *position,
    json_t *log, json_t *notes, struct err *e)
{
	SCOPED_JSON json_t *doc = json_pack("{s:s, s:I}", "state", "released",
	    "held_ms", (json_int_t)(h->until_ms - h->since_ms));

	if (position != NULL)
		json_object_set_new(doc, "position", position);
	if (log != NULL)
		json_object_set_new(doc, "log", log);
	if (json_array_size(notes) > 0)
		json_object_set(doc, "notes", notes);
	json_decref(notes);
	if (lost == NULL && h->end != SERVE_RELEASED)
		lost = h->end == SERVE_DEADLINE ? "let go at the deadline"
						: "the agent is gone";
	if (lost != NULL)
		json_object_set_new(doc, "reason", jdoc_new_str(lost));
	json_object_set_new(doc, "still_held", json_boolean(lost == NULL));
	return serve_print(doc, e);
}

/* ---- words that several hooks need ---- */

const json_t *
serve_connection(const struct serve *s)
{
	const json_t *c = json_object_get(s->config, "connection");

	return json_is_object(c) ? c : NULL;
}

int
serve_path(const struct serve *s, const char **path, struct err *e)
{
	const char *p = jdoc_str(s->config, "path", NULL);

	if (p == NULL || p[0] != '/')
		return err_set(
		    e, -EINVAL, "the job needs \"path\", an absolute path");
	*path = p;
	return 0;
}

char *
serve_clone_path(const struct serve *s, const char *path)
{
	return fs_join(s->clone, path);
}

int
serve_owner(json_t **owner, const char *path, struct err *e)
{
	const struct passwd *pw;
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(e, errno, "stat %s", path);
	pw = getpwuid(st.st_uid);
	*owner = json_pack("{s:I, s:I, s:s}", "uid", (json_int_t)st.st_uid,
	    "gid", (json_int_t)st.st_gid, "name", pw ? pw->pw_name : "");
	return 0;
}

void
serve_add_path(json_t *paths, const char *path, const char *role, bool optional)
{
	json_t *o = json_object();

	json_object_set_new(o, "path", jdoc_new_str(path));
	json_object_set_new(o, "role", json_string(role));
	if (optional)
		json_object_set_new(o, "optional", json_true());
	json_array_append_new(paths, o);
}

void
serve_note(json_t *list, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	json_array_append_new(list, jdoc_new_str(text));
}

int
serve_tool(
    struct process *p, const char *const *argv, int *status, struct err *e)
{
	static const char *const env[] = {"LC_ALL=C", NULL};
	const struct process_how how = {.argv = argv,
	    .env_add = env,
	    .uid = (uid_t)-1,
	    .gid = (gid_t)-1,
	    .die_with_parent = 1};

	return process_run(p, &how, TOOL_MAX_MS, status, e);
}
