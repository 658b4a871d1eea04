/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neap-inspect: look into the files of a repository, key files and block maps,
 * one by one, and say what each is, what it holds and whether it is whole. It
 * reads and changes nothing. This file has the command line and knows a file
 * by its first bytes.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "kmod-free/track/blockmap_internal.h"
#include "tools/inspect/inspect.h"

static const struct kind {
	const char *magic;
	const char *name;
	int (*run)(struct inspect *in, struct err *e);
} kinds[] = {
    {"neapPACK", "pack", inspect_pack},
    {"neapTABL", "table", inspect_table},
    {"neapDOC1", "document", inspect_doc},
    {"NEAPBMO\1", "block map, objects", inspect_objects},
    {"NEAPBMR\1", "block map, redo", inspect_redo},
};

static const struct kind key_file = {"", "key file", inspect_key_file};
static const struct kind neap_json = {"", "neap.json", inspect_neap_json};
static const struct kind hashes = {"", "block map, hashes", inspect_hashes};

/* A page of hashes has no magic: its file is known by its name. */
static const struct kind *
recognise(const struct inspect *in)
{
	const char *head = (const char *)in->head;
	const char *slash = strrchr(in->path, '/');
	const char *name = slash != NULL ? slash + 1 : in->path;
	size_t blanks = strspn(head, " \t\r\n");

	for (size_t i = 0; i < MEM_COUNT(kinds); i++)
		if (memcmp(head, kinds[i].magic, 8) == 0)
			return &kinds[i];
	if (strcmp(name, BLOCKMAP_HASHES) == 0)
		return &hashes;
	if (strcmp(name, "neap.json") == 0)
		return &neap_json;
	if (blanks >= INSPECT_HEAD || head[blanks] != '{')
		return NULL;
	if (memmem(head, INSPECT_HEAD, "\"neap_key\"", 10) != NULL)
		return &key_file;
	return memmem(head, INSPECT_HEAD, "\"chunk_blocks\"", 14) != NULL
		   ? &neap_json
		   : NULL;
}

/* A file of this name was more than it looks like now. */
static int
unknown(const struct inspect *in, struct err *e)
{
	SCOPED_FREE char *tail = inspect_tail(in, 2);

	if (tail != NULL &&
	    (strncmp(tail, "index/", 6) == 0 || strncmp(tail, "maps/", 5) == 0))
		return err_set(e, -EBADMSG,
		    "offset 0: by its place a table, by its first bytes none");
	return err_set(
	    e, -EINVAL, "offset 0: not a file of neap, or its header is gone");
}

/* The library says which repository and file; we say the file ourselves. */
static const char *
short_text(const struct inspect *in, const struct err *e)
{
	const char *text = e->text, *at;
	size_t n = strlen(in->path);

	at = strstr(text, "repository ");
	if (at != text || strncmp(text + 11, in->path, n) != 0 ||
	    strncmp(text + 11 + n, ": ", 2) != 0)
		return text;
	text += 11 + n + 2;
	at = strstr(text, ": ");
	return at != NULL ? at + 2 : text;
}

static const char *
state_word(int rc)
{
	switch (rc) {
	case 0:
		return "whole";
	case -EBADMSG:
		return "damaged";
	case -EKEYREJECTED:
		return "not checked";
	default:
		return "unreadable";
	}
}

static int
look_at(struct inspect *in, const char *path, json_t *all)
{
	const struct kind *k = NULL;
	struct err e = ERR_NONE;
	int rc;

	in->doc = all != NULL ? json_object() : NULL;
	if (in->doc == NULL)
		printf("%s\n", path);
	else
		inspect_say_str(in, "file", path);
	rc = inspect_open(in, path, &e);
	if (rc == 0) {
		k = recognise(in);
		inspect_say_str(in, "type", k != NULL ? k->name : "unknown");
		inspect_say_int(in, "bytes", in->len);
		rc = k != NULL ? k->run(in, &e) : unknown(in, &e);
	}
	inspect_say_str(in, "state", state_word(rc));
	if (rc < 0) {
		const char *text = short_text(in, &e);

		inspect_say_str(in, "problem", text);
		fflush(stdout);
		log_error("%s: %s", path, text);
	}
	inspect_close(in);
	if (all != NULL)
		json_array_append_new(all, in->doc);
	return rc;
}

/* Corrupt is worse than failed, and that worse than unchecked. */
static int
worse(int a, int b)
{
	static const int order[] = {0, 5, 3, 2, 1, 4};
	size_t i = 0, j = 0;

	while (i + 1 < MEM_COUNT(order) && order[i] != a)
		i++;
	while (j + 1 < MEM_COUNT(order) && order[j] != b)
		j++;
	return i > j ? a : b;
}

static void
help(void)
{
	printf(
	    "usage: neap-inspect [--key FILE] [--json] [--list] FILE...\n\n"
	    "Say what each FILE of a neap repository is, what it holds, and\n"
	    "whether it is whole. Knows neap.json, key files, packs, index\n"
	    "segments, maps, records, proofs, and the files of a block map.\n"
	    "\n"
	    "  -k, --key FILE  a host or recovery key, to look inside\n"
	    "  -j, --json      one JSON document on standard output\n"
	    "  -l, --list      each entry, not only how many\n"
	    "  -h, --help      this\n"
	    "  --version       the version\n\n"
	    "Exit status: 0 whole, 1 failed, 2 usage, 4 corrupt,\n"
	    "5 could not check. See neap-inspect(1).\n");
}

static const struct option opts[] = {
    {"key", required_argument, NULL, 'k'},
    {"json", no_argument, NULL, 'j'},
    {"list", no_argument, NULL, 'l'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

struct options {
	const char *key;
	bool json, list, done;
};

static int
parse(int argc, char **argv, struct options *to, struct err *e)
{
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, ":k:jlh", opts, NULL)) != -1) {
		switch (o) {
		case 'k':
			to->key = optarg;
			break;
		case 'j':
			to->json = true;
			break;
		case 'l':
			to->list = true;
			break;
		case 'h':
			help();
			to->done = true;
			return 0;
		case 'V':
			printf("neap-inspect %s\n", NEAP_VERSION);
			to->done = true;
			return 0;
		case ':':
			return err_set(e, -EINVAL, "option %s needs a value",
			    argv[optind - 1]);
		default:
			return err_set(e, -EINVAL,
			    "unknown option %s (see neap-inspect --help)",
			    argv[optind - 1]);
		}
	}
	if (optind == argc)
		return err_set(
		    e, -EINVAL, "no FILE named (see neap-inspect --help)");
	return 0;
}

int
main(int argc, char **argv)
{
	SCOPED_KEYS struct keys key = {0};
	SCOPED_JSON json_t *all = NULL;
	struct options o = {0};
	struct inspect in = {.fd = -1};
	struct err e = ERR_NONE;
	int status = 0, rc;

	log_init("neap-inspect", LOG_AT_NOTICE, false);
	rc = parse(argc, argv, &o, &e);
	if (rc == 0 && o.done)
		return 0;
	if (rc == 0 && o.key != NULL)
		rc = keys_load(&key, o.key, &e);
	if (rc < 0) {
		log_error("%s", e.text);
		return err_exit_status(rc);
	}
	in.key = o.key != NULL ? &key : NULL;
	in.list = o.list;
	all = o.json ? json_array() : NULL;
	for (int i = optind; i < argc; i++) {
		rc = look_at(&in, argv[i], all);
		/* Not a file of ours is no mistake on the command line. */
		status = worse(status, rc == -EINVAL ? 1 : err_exit_status(rc));
	}
	if (all != NULL) {
		SCOPED_FREE char *text = jdoc_text(all);

		puts(text);
	}
	return status;
}
