/*
 * The commands of `neap`: one function each, in cmd_*.c, called with what
 * main.c parsed. Each returns a result code; main prints the error text and
 * turns the code into the exit status.
 */
#ifndef NEAP_AGENT_CMD_H
#define NEAP_AGENT_CMD_H

#include <stdbool.h>

#include "agent/conf/conf.h"
#include "agent/store/store.h"

struct cmd {
	/* global options */
	const char *conf_file;
	bool json;
	bool quiet; /* a backup that went well says nothing */
	/* options of commands; main.c says which command takes which */
	bool full_scan, dry_run, trust_tracker, check;
	const char *passphrase_file;
	/* words behind the command */
	char **word;
	int words;

	struct conf conf; /* loaded before the command runs */
	int status;       /* exit status to use with result 0, where not 0 */
};

int cmd_init(struct cmd *c, struct err *e);
int cmd_probe(struct cmd *c, struct err *e);
int cmd_backup(struct cmd *c, struct err *e);
int cmd_list(struct cmd *c, struct err *e);
int cmd_show(struct cmd *c, struct err *e);
int cmd_diff(struct cmd *c, struct err *e);
int cmd_status(struct cmd *c, struct err *e);

/* The repository of the configuration, with the host's key. */
int cmd_open_store(const struct cmd *c, struct store *s, struct err *e);
/* A document on standard output, indented, with a newline. */
void cmd_print_json(const json_t *j);
/* "2026-11-22 19:15:17" local time from a backup's; in a buffer of 32. */
const char *cmd_local_time(char out[32], int64_t utc_s);
/* "5 min", "3 h", "2 days" */
const char *cmd_age(char out[32], int64_t seconds);
/* A path for a terminal: control characters as \ooo. Gives. */
char *cmd_printable(const char *s);

#endif
