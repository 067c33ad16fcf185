/* SHA-256 of bytes in memory, for files of the reference that are too big to keep. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

/* Writes the digest as 64 hexadecimal digits and a closing zero. */
void sha256_hex(const uint8_t *data, size_t bytes, char out[65]);

#endif
