/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

#define FILE_MAX_BYTES 4096u

int
passphrase_load(char **out, const char *path, struct err *e)
{
	SCOPED_BUF struct buf b = {0};
	const uint8_t *nl;
	size_t n;
	int rc = fs_read_at(AT_FDCWD, path, FILE_MAX_BYTES, &b, e);

	if (rc < 0)
		return err_wrap(e, "passphrase file");
	nl = b.len > 0 ? memchr(b.data, '\n', b.len) : NULL;
	n = nl != NULL ? (size_t)(nl - b.data) : b.len;
	if (n == 0 || memchr(b.data, '\0', n) != NULL)
		rc = err_set(e, -EINVAL,
		    "passphrase file %s: its first line is empty or is no text",
		    path);
	else
		*out = mem_strn((const char *)b.data, n);
	OPENSSL_cleanse(b.data, b.len);
	return rc;
}
