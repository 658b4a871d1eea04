/*
 * CRC-32C (Castagnoli) as kernels use it inside their formats: it starts with
 * what it is told and is not inverted at its end, so that pieces chain.
 */
#ifndef NEAP_TRACK_CRC32C_H
#define NEAP_TRACK_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t n);

#endif
