/*
 * Lines of a server without a terminal: to syslog(3). Apart, because the words
 * of <syslog.h> are those of agent/core/log.h.
 */
#ifndef NEAP_TOOLS_MOUNT_LOG_H
#define NEAP_TOOLS_MOUNT_LOG_H

void mount_log_open(void);
void mount_log_error(const char *text);

#endif
