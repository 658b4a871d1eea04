/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount_log.h"

#include <syslog.h>

void
mount_log_open(void)
{
	openlog("neap-restore", LOG_PID, LOG_DAEMON);
}

void
mount_log_error(const char *text)
{
	syslog(LOG_ERR, "%s", text);
}
