/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/crc32c.h"

#include <pthread.h>

#include "agent/core/bytes.h"

#define POLYNOMIAL 0x82f63b78u /* bit-reversed */

/* table[k][b]: what byte b does with k more bytes behind it. */
static uint32_t table[8][256];

static void
fill_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
		table[0][i] = c;
	}
	for (int k = 1; k < 8; k++)
		for (int i = 0; i < 256; i++) {
			uint32_t c = table[k - 1][i];

			table[k][i] = c >> 8 ^ table[0][c & 255];
		}
}

/* Eight bytes in one step: the metadata of a pool is gigabytes. */
static uint32_t
eight(uint32_t crc, const uint8_t *p)
{
	uint32_t lo = crc ^ bytes_le32(p), hi = bytes_le32(p + 4);

	return table[7][lo & 255] ^ table[6][lo >> 8 & 255] ^
	       table[5][lo >> 16 & 255] ^ table[4][lo >> 24] ^
	       table[3][hi & 255] ^ table[2][hi >> 8 & 255] ^
	       table[1][hi >> 16 & 255] ^ table[0][hi >> 24];
}

uint32_t
crc32c(uint32_t crc, const void *data, size_t n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint8_t *p = data;

	pthread_once(&once, fill_table);
	for (; n >= 8; n -= 8, p += 8)
		crc = eight(crc, p);
	while (n-- > 0)
		crc = crc >> 8 ^ table[0][(uint8_t)crc ^ *p++];
	return crc;
}
