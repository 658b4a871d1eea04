/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random-ops FOLDER SEED N: N random operations on the files of a folder, for
 * tests/system/tracker-random.sh; what was done on standard output.
 */
#include "tests/unit/track/random_ops.h"

int
main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: random-ops FOLDER SEED N\n");
		return 2;
	}
	workfd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	SURE(workfd >= 0);
	random_ops_seed(strtoull(argv[2], NULL, 0));
	random_ops_some((unsigned)strtoul(argv[3], NULL, 0));
	fwrite(random_ops_journal.data, 1, random_ops_journal.len, stdout);
	buf_free(&random_ops_journal);
	random_ops_let_go();
	close(workfd);
	return fflush(stdout) == 0 ? 0 : 1;
}
