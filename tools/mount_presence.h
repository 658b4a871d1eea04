/*
 * How `unmount` knows that a server is gone: the server listens on an abstract
 * socket named after the mounted folder; whoever is connected to it sees it
 * close when the process ends, however it ends. While somebody is connected the
 * server looks whether it is still mounted: a copy of the mount in another
 * mount namespace would keep it alive for ever.
 */
#ifndef NEAP_TOOLS_MOUNT_PRESENCE_H
#define NEAP_TOOLS_MOUNT_PRESENCE_H

#include <stdbool.h>
#include <stdint.h>

int mount_presence_listen(const char *real_dir);  /* a descriptor or -1 */
int mount_presence_connect(const char *real_dir); /* likewise */
/* 0 when it has ended within `wait_ms`, else -ETIMEDOUT. */
int mount_presence_wait(int fd, int64_t wait_ms);

/* The path as the mount table has it; gives. The server of a dead mount answers
 * nothing, so what realpath cannot say is taken as it is. */
char *mount_presence_path(const char *dir);

/* Is a backup of neap mounted on this path, in our mount namespace? */
bool mount_presence_mounted(const char *real_dir);
/* The number of the device that it shows ("0:57"), which its server is not
 * asked for; gives, NULL where none is mounted. */
char *mount_presence_device(const char *real_dir);

#endif
