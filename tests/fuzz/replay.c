/* SPDX-License-Identifier: Apache-2.0 */
/* The main program of a target without libFuzzer: each argument is a file. */
#include "agent/core/fs.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>

#define INPUT_MAX (1u << 20)

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		SCOPED_BUF struct buf text = {0};
		struct err e = ERR_NONE;
		uint8_t *exact;

		if (fs_read_at(AT_FDCWD, argv[i], INPUT_MAX, &text, &e) < 0) {
			fprintf(stderr, "%s\n", e.text);
			return 1;
		}
		/* In memory of just that size, so that ASan sees its end. */
		exact = malloc(text.len);
		if (text.len > 0)
			memcpy(exact, text.data, text.len);
		fprintf(stderr, "%s\n", argv[i]);
		LLVMFuzzerTestOneInput(exact, text.len);
		free(exact);
	}
	return 0;
}
