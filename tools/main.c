/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "tools/tool.h"

static const struct tool_command *const commands[] = {
    &tool_list,
    &tool_extract,
    &tool_mount,
    &tool_unmount,
    &tool_check,
    &tool_dump,
};

static void
print_help(void)
{
	printf("usage: neap-restore [OPTION...] COMMAND ...\n\n"
	       "Lists, extracts, mounts and proves backups made by neap.\n\n"
	       "commands\n");
	for (size_t i = 0; i < MEM_COUNT(commands); i++)
		printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
	printf("\nwhere the repository is\n"
	       "  -c, --config FILE          configuration (default: "
	       "/etc/neap/neap.yaml)\n"
	       "  -r, --repository URL       this repository, without a "
	       "configuration\n"
	       "      --key FILE             the recovery key\n"
	       "      --passphrase-file FILE the passphrase of a key slot, "
	       "instead\n"
	       "\nother options\n"
	       "      --json                 one JSON document on standard "
	       "output\n"
	       "  -q, --quiet                no notices, no progress\n"
	       "  -v, --verbose              more of what goes on\n"
	       "  -V, --version              print the version\n"
	       "  -h, --help                 this text; COMMAND --help: its "
	       "options\n"
	       "\nBACKUP is JOB/TIME, JOB/latest, or a unique prefix of one.\n"
	       "Exit status: 0 done, 1 failed, 2 usage or configuration, "
	       "3 refused,\n4 corrupt, 5 could not check.\n");
}

static void
print_command_help(const struct tool_command *c)
{
	printf("usage: neap-restore %s\n\n%s.\n", c->usage, c->summary);
	if (c->help[0] != '\0')
		printf("\n%s", c->help);
}

static const struct tool_command *
find_command(const char *name, struct err *e)
{
	for (size_t i = 0; i < MEM_COUNT(commands); i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	err_set(e, -EINVAL, "there is no command '%s'", name);
	err_hint(e, "see: neap-restore --help");
	return NULL;
}

static bool
wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 ||
		    strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

static const char shorts[] = "+:c:r:qvVh";
static const struct option longs[] = {
    {"config", required_argument, NULL, 'c'},
    {"repository", required_argument, NULL, 'r'},
    {"key", required_argument, NULL, 'k'},
    {"passphrase-file", required_argument, NULL, 'p'},
    {"json", no_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* 1: go on with the command; 0: all is said; < 0 error. */
static int
read_options(struct tool *t, int argc, char **argv, struct err *e)
{
	enum log_level level = LOG_AT_NOTICE;
	int o;

	while ((o = tool_getopt(argc, argv, shorts, longs, e)) != -1) {
		switch (o) {
		case 'c':
			t->conf_file = optarg;
			break;
		case 'r':
			t->url = optarg;
			break;
		case 'k':
			t->key_path = optarg;
			break;
		case 'p':
			t->passphrase_file = optarg;
			break;
		case 'j':
			t->json = true;
			break;
		case 'q':
			level = LOG_AT_WARN;
			break;
		case 'v':
			level = LOG_AT_DEBUG;
			break;
		case 'V':
			printf("neap-restore %s\n", NEAP_VERSION);
			return 0;
		case 'h':
			print_help();
			return 0;
		default:
			return e->code;
		}
	}
	log_init("neap-restore", level, level != LOG_AT_WARN);
	return 1;
}

static int
run(struct tool *t, int argc, char **argv, struct err *e)
{
	const struct tool_command *c;
	int rc = read_options(t, argc, argv, e);

	if (rc <= 0)
		return rc;
	if (optind >= argc) {
		err_set(e, -EINVAL, "which command?");
		return err_hint(e, "see: neap-restore --help");
	}
	c = find_command(argv[optind], e);
	if (c == NULL)
		return e->code;
	argc -= optind;
	argv += optind;
	if (wants_help(argc, argv)) {
		print_command_help(c);
		return 0;
	}
	optind = 0;
	return c->run(t, argc, argv, e);
}

int
main(int argc, char **argv)
{
	struct tool t = {.json = false};
	struct err e = ERR_NONE;
	int rc;

	log_init("neap-restore", LOG_AT_NOTICE, false);
	stop_install();
	rc = run(&t, argc, argv, &e);
	log_progress_end();
	if (rc < 0)
		log_error("%s", e.text);
	tool_fini(&t);
	if (fflush(stdout) != 0 && rc >= 0) {
		log_error("write to standard output: %s", strerror(errno));
		return 1;
	}
	return err_exit_status(rc);
}
