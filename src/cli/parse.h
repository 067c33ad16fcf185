/* Strict readers of the small texts in arguments and input files: numbers and keys. What is not
 * wholly understood is refused; nothing is cut, trimmed or rounded into range. */
#ifndef NPHD_CLI_PARSE_H
#define NPHD_CLI_PARSE_H

#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for a key as text: 32 hex digits and the closing zero. */
#define CLI_KEY_TEXT_BYTES 33

/* Why a text was refused, in a few words. */
typedef struct cli_problem {
    char text[NPHD_ERROR_TEXT_BYTES];
} cli_problem;

void cli_problem_set(cli_problem *problem, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Decimal digits only, within min..max. */
bool cli_parse_number(const char *text, size_t length, uint64_t min, uint64_t max, uint64_t *out);

/* The value of option `name`; complains as a usage error when it is not a number in min..max. */
bool cli_option_u32(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *out);
bool cli_option_u64(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* A number of bytes, with K, M or G behind it for 2^10, 2^20 or 2^30 of them; not 0. */
bool cli_option_bytes(const char *name, const char *text, uint64_t *out);

/* A plain decimal fraction of 0 or more; complains as above. */
bool cli_option_radius(const char *name, const char *text, float *out);

/* A time in microseconds, a plain decimal fraction above 0; complains as above. */
bool cli_option_budget(const char *name, const char *text, float *out);

/* "nphd" or "hamming"; complains as above. */
bool cli_option_metric(const char *name, const char *text, nphd_metric *out);

/* How keys are printed, for the whole program: "auto", or "iscc-id" as ISCC-IDs of the realm. */
bool cli_option_key_format(const char *name, const char *text);
/* Of which realm ISCC-IDs are, which keys say nothing of; 1 unless this says otherwise. */
bool cli_option_realm(const char *name, const char *text);
/* Are keys printed as numbers where they are small? */
bool cli_keys_are_numbers(void);

/* Decimal up to 2^64 - 1, "0x" and 1 to 32 hex digits, 32 hex digits, a UUID with dashes, or an
 * ISCC-ID of the realm with "ISCC:" in front. */
bool cli_parse_key(const char *text, size_t length, nphd_key *out, cli_problem *problem);

/* Can an index with keys of this width hold the key? */
bool cli_key_fits(nphd_key key, uint32_t key_bits, cli_problem *problem);

/* Decimal for keys of 64 bits, 32 hex digits for those of 128; an ISCC-ID where that is asked for
 * and the key is not above 64 bits. */
void cli_format_key(nphd_key key, uint32_t key_bits, char out[CLI_KEY_TEXT_BYTES]);

/* -1: no hex digit. */
int cli_hex_digit(char c);
bool cli_all_hex(const char *text, size_t length);

/* 32 hex digits with dashes where a UUID has them? */
bool cli_is_uuid(const char *text, size_t length);

#endif
