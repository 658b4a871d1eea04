/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration: what is taken is whole, and its jobs can be told to hooks. */
#include <errno.h>

#include "agent/conf/conf.h"
#include "agent/core/jdoc.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_CONF struct conf c = {0};
	struct err e = ERR_NONE;

	if (conf_parse(&c, "neap.yaml", (const char *)data, len, &e) < 0) {
		MUST(e.code == -EINVAL && e.text[0] != '\0');
		return 0;
	}
	MUST(c.repo_url != NULL && c.state_dir != NULL);
	for (size_t i = 0; i < c.jobs; i++) {
		SCOPED_JSON json_t *j = conf_hook_json(&c.job[i]);

		MUST(j != NULL);
		MUST(conf_job(&c, c.job[i].name, &e) == &c.job[i]);
	}
	return 0;
}
