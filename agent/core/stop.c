/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static atomic_int signals;

static void
on_signal(int sig)
{
	if (atomic_fetch_add(&signals, 1) > 0)
		_exit(128 + sig);
}

void
stop_install(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	/* A peer that is gone is an EPIPE to report, not a death. */
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
}

bool
stop_requested(void)
{
	return atomic_load(&signals) > 0;
}

int
stop_check(struct err *e)
{
	if (stop_requested())
		return err_set(e, -ECANCELED, "told to stop by a signal");
	return 0;
}
