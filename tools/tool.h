/*
 * What every command of neap-restore has: the options before the command's
 * name, the configuration where there is one, and the repository.
 */
#ifndef NEAP_TOOLS_TOOL_H
#define NEAP_TOOLS_TOOL_H

#include <getopt.h>
#include <stdbool.h>

#include "agent/conf/conf.h"
#include "agent/store/store.h"

struct tool {
	bool json;
	const char *conf_file; /* -c, or NULL */
	const char *url, *key_path, *passphrase_file;
	char *passphrase;
	bool have_conf;
	struct conf conf;
	struct store store;
	struct store_how how; /* as the store was or will be opened */
};

/* One command; `argv[0]` is its name. The result is its exit status through
 * err_exit_status; the text of `e` is printed by main. */
typedef int tool_command_fn(
    struct tool *t, int argc, char **argv, struct err *e);

struct tool_command {
	const char *name;
	const char *usage;   /* behind "neap-restore " */
	const char *summary; /* one line */
	const char *help;    /* the options, one a line */
	tool_command_fn *run;
};

extern const struct tool_command tool_list, tool_extract, tool_mount,
    tool_unmount, tool_check, tool_dump;

/* Read configuration and key options into t->how; opens nothing. */
int tool_locate(struct tool *t, struct err *e);
/* tool_locate, and open the store. */
int tool_open(struct tool *t, struct err *e);
void tool_fini(struct tool *t);

/*
 * getopt_long with errors as text: the next option, -1 at the end, '?' with `e`
 * set (-EINVAL). Starts anew for each argv with *state == 0.
 */
int tool_getopt(int argc, char **argv, const char *shorts,
    const struct option *longs, struct err *e);
/* Exactly `n` arguments behind the options, or -EINVAL with the usage. */
int tool_args(
    int argc, char **argv, int n, const struct tool_command *c, struct err *e);

/* One JSON document to standard output; borrowed. */
int tool_print_json(const json_t *j, struct err *e);

#endif
