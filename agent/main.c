/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neap: back up databases from snapshots, by changed blocks. This file parses
 * the command line; each command is a function in cmd_*.c; what they do lives
 * in agent/job.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/cmd.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"

static const struct command {
	const char *name, *usage, *summary;
	int (*run)(struct cmd *c, struct err *e);
	int words_min, words_max;
	const char *options; /* letters of opts[] beside the global ones */
} commands[] = {
    {"init", "[--passphrase-file FILE]",
	"make the repository and its key files", cmd_init, 0, 0, "P"},
    {"probe", "JOB", "say how a job would be backed up, and what is refused",
	cmd_probe, 1, 1, ""},
    {"backup", "JOB [--full-scan] [--dry-run] [--trust-tracker]",
	"make a backup", cmd_backup, 1, 1, "FNT"},
    {"list", "[JOB]", "list the backups", cmd_list, 0, 1, ""},
    {"show", "BACKUP", "show the record of a backup", cmd_show, 1, 1, ""},
    {"diff", "BACKUP BACKUP", "show what differs between two backups", cmd_diff,
	2, 2, ""},
    {"status", "[JOB] [--check]",
	"say how each job is doing; --check: by exit status too", cmd_status, 0,
	1, "K"},
};

static const struct option opts[] = {
    {"config", required_argument, NULL, 'c'},
    {"json", no_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"full-scan", no_argument, NULL, 'F'},
    {"dry-run", no_argument, NULL, 'N'},
    {"trust-tracker", no_argument, NULL, 'T'},
    {"check", no_argument, NULL, 'K'},
    {"passphrase-file", required_argument, NULL, 'P'},
    {NULL, 0, NULL, 0},
};

static void
help(FILE *to)
{
	fprintf(to, "usage: neap [-c FILE] [--json] [-q|-v] COMMAND …\n\n");
	for (size_t i = 0; i < MEM_COUNT(commands); i++)
		fprintf(
		    to, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fprintf(to,
	    "\n  -c, --config FILE  the configuration (" CONF_PATH_DEFAULT ")\n"
	    "  --json             one JSON document on standard output\n"
	    "  -q, --quiet        errors only\n"
	    "  -v, --verbose      say more\n"
	    "  -h, --help         this, or a command's own help\n"
	    "  --version          the version\n\n"
	    "BACKUP is JOB/TIME, JOB/latest, or a unique beginning of one.\n"
	    "Exit status: 0 done, 1 failed, 2 usage or configuration,\n"
	    "3 refused, 4 corrupt, 5 could not check. See neap(1).\n");
}

static void
help_command(const struct command *k, FILE *to)
{
	fprintf(to, "usage: neap [OPTION…] %s %s\n\n%s\n", k->name, k->usage,
	    k->summary);
	if (strchr(k->options, 'F') != NULL)
		fprintf(to,
		    "\n  --full-scan      hash everything, ask no tracker\n"
		    "  --dry-run        say what would be read; store nothing\n"
		    "  --trust-tracker  lift the tracker's quarantine\n");
	if (strchr(k->options, 'P') != NULL)
		fprintf(to,
		    "\n  --passphrase-file FILE\n"
		    "                   also keep the recovery key in the "
		    "repository,\n"
		    "                   under the passphrase in FILE's first "
		    "line\n");
}

static const struct command *
find_command(const char *name)
{
	for (size_t i = 0; i < MEM_COUNT(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* getopt goes on to the next word only behind the last letter of one, so that
 * of several short options (-xq) the letter has to be named. */
static int
unknown_option(char **argv, struct err *e)
{
	const char *word = argv[optind - 1];

	if (strncmp(word, "--", 2) == 0 && strchr(word, '=') != NULL)
		return err_set(e, -EINVAL,
		    "there is no option %s, or it takes no value (see neap "
		    "--help)",
		    word);
	if (optopt != 0)
		return err_set(
		    e, -EINVAL, "unknown option -%c (see neap --help)", optopt);
	return err_set(e, -EINVAL, "unknown option %s (see neap --help)", word);
}

/* -EINVAL on a command line that is wrong; *done: nothing is left to do. */
static int
parse(int argc, char **argv, struct cmd *c, const struct command **k,
    enum log_level *level, bool *done, struct err *e)
{
	char used[32] = "";
	bool want_help = false;
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, ":c:qvh", opts, NULL)) != -1) {
		size_t n = strlen(used);

		switch (o) {
		case 'c':
			c->conf_file = optarg;
			break;
		case 'j':
			c->json = true;
			break;
		case 'q':
			*level = LOG_AT_QUIET;
			c->quiet = true;
			break;
		case 'v':
			*level = LOG_AT_DEBUG;
			break;
		case 'h':
			want_help = true;
			break;
		case 'V':
			printf("neap %s\n", NEAP_VERSION);
			*done = true;
			return 0;
		case 'F':
			c->full_scan = true;
			break;
		case 'N':
			c->dry_run = true;
			break;
		case 'T':
			c->trust_tracker = true;
			break;
		case 'K':
			c->check = true;
			break;
		case 'P':
			c->passphrase_file = optarg;
			break;
		case ':':
			return err_set(e, -EINVAL, "option %s needs a value",
			    argv[optind - 1]);
		default:
			return unknown_option(argv, e);
		}
		if (strchr("FNTKP", o) != NULL && n + 1 < sizeof used)
			used[n] = (char)o;
	}
	*k = optind < argc ? find_command(argv[optind]) : NULL;
	if (optind < argc && *k == NULL)
		return err_set(e, -EINVAL,
		    "unknown command '%s' (see neap --help)", argv[optind]);
	if (want_help) {
		if (*k != NULL)
			help_command(*k, stdout);
		else
			help(stdout);
		*done = true;
		return 0;
	}
	if (*k == NULL)
		return err_set(e, -EINVAL, "no command (see neap --help)");
	for (const char *u = used; *u != '\0'; u++)
		if (strchr((*k)->options, *u) == NULL)
			return err_set(e, -EINVAL,
			    "neap %s does not take that option (usage: neap "
			    "%s %s)",
			    (*k)->name, (*k)->name, (*k)->usage);
	c->word = argv + optind + 1;
	c->words = argc - optind - 1;
	if (c->words < (*k)->words_min || c->words > (*k)->words_max)
		return err_set(
		    e, -EINVAL, "usage: neap %s %s", (*k)->name, (*k)->usage);
	return 0;
}

/* Trackers and the reader hold many files open for a moment. */
static void
raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max < 65536 ? l.rlim_max : 65536;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int
main(int argc, char **argv)
{
	struct cmd c = {.conf_file = CONF_PATH_DEFAULT};
	enum log_level level = LOG_AT_NOTICE;
	const struct command *k = NULL;
	struct err e = ERR_NONE;
	bool done = false;
	int rc;

	log_init("neap", level, false);
	rc = parse(argc, argv, &c, &k, &level, &done, &e);
	log_init("neap", level, !c.json && level > LOG_AT_QUIET);
	stop_install();
	raise_file_limit();
	if (rc == 0 && !done) {
		rc = conf_load(&c.conf, c.conf_file, &e);
		/* A configuration that cannot be read is one that is wrong. */
		rc = rc < 0 ? -EINVAL : k->run(&c, &e);
	}
	/* A list that was cut short must not look like a whole one. */
	if (rc >= 0 && fflush(stdout) != 0)
		rc = err_sys(&e, errno, "write to standard output");
	if (rc < 0)
		log_error("%s", e.text);
	conf_free(&c.conf);
	return rc < 0 ? err_exit_status(rc) : c.status;
}
