/* The trailer behind the last block of a `.usearch` file: bytes <-> structs, no I/O
 * (docs/format.md section 2, which is normative).
 *
 *     mark (16 bytes) | sections ... | block checksums | directory | footer (64 bytes)
 *
 * The block checksums cover every byte before them, so that with the checksums in the directory
 * and the footer each byte of the file is covered by exactly one. */
#ifndef NPHDI_TRAILER_H
#define NPHDI_TRAILER_H

#include <nphd/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPHDI_TRAILER_MARK_BYTES 16
#define NPHDI_TRAILER_FOOTER_BYTES 64
#define NPHDI_TRAILER_BLOCK_BYTES 65536
#define NPHDI_TRAILER_MAX_SECTIONS 16
#define NPHDI_TRAILER_DIRECTORY_HEAD_BYTES 96
#define NPHDI_TRAILER_SECTION_BYTES 32
#define NPHDI_TRAILER_MAX_DIRECTORY_BYTES                                                          \
    (NPHDI_TRAILER_DIRECTORY_HEAD_BYTES + NPHDI_TRAILER_MAX_SECTIONS * NPHDI_TRAILER_SECTION_BYTES)

enum {
    NPHDI_SECTION_CHECKSUMS = 1,      /* u64 for each block of NPHDI_TRAILER_BLOCK_BYTES */
    NPHDI_SECTION_KEY_TABLE = 2,      /* u32 slots with fingerprints, by the hash of their keys */
    NPHDI_SECTION_NODE_DIRECTORY = 3, /* a record of 32 bytes for each 64 slots */
    NPHDI_SECTION_LIVE = 4,           /* a bit for each slot that is not removed, in u64 words */
    NPHDI_SECTION_PLANES = 10,        /* the rows by length and word */
    NPHDI_SECTION_MIH = 11,           /* the slots by chunks of their rows */
    NPHDI_SECTION_UNIT = 12,          /* the type of the codes; see unit_format.h */
    NPHDI_SECTION_KEY_OVERFLOW = 13   /* what the key table has no near place for */
};

/* No writer counts so far. A file may say it; what would have to count further is not written. */
#define NPHDI_LAST_GENERATION ((uint64_t)INT64_MAX)

/* A reader that does not know a section with this flag must not use the file. */
#define NPHDI_SECTION_CRITICAL 1U

typedef struct nphdi_trailer_section {
    uint32_t id;
    uint32_t flags;
    uint64_t offset; /* from the start of the file */
    uint64_t bytes;
    uint64_t checksum; /* of the block checksums; 0 for sections that blocks cover */
} nphdi_trailer_section;

typedef struct nphdi_trailer {
    uint64_t foreign_bytes; /* where the trailer begins: the size of the file without it */
    uint64_t file_bytes;
    uint64_t directory_offset;
    uint32_t directory_bytes;
    uint64_t directory_checksum;
    /* from the directory */
    uint8_t identity[16];
    uint64_t generation;
    uint64_t live;
    uint64_t next_automatic_key;
    uint32_t build_breadth;
    uint32_t search_breadth;
    uint32_t section_count;
    nphdi_trailer_section sections[NPHDI_TRAILER_MAX_SECTIONS];
} nphdi_trailer;

/* The mark at the start of a trailer; says that a file that lost its footer had one. */
void nphdi_trailer_encode_mark(uint8_t out[NPHDI_TRAILER_MARK_BYTES]);
bool nphdi_trailer_is_mark(const uint8_t *bytes, size_t available);
/* The mark, or what is left of one where a file was cut inside it. */
bool nphdi_trailer_begins(const uint8_t *bytes, size_t available);

/* *out_found false: these are not the last bytes of a file of ours. Errors: NPHD_CORRUPT (the
 * footer is ours and damaged), NPHD_UNSUPPORTED (a later version). */
nphd_status nphdi_trailer_decode_footer(const char *name,
                                        const uint8_t footer[NPHDI_TRAILER_FOOTER_BYTES],
                                        uint64_t file_bytes, nphdi_trailer *out, bool *out_found,
                                        nphd_error *err);

/* The directory, whose place the footer named. Checks that all sections lie between
 * foreign_bytes and the directory. */
nphd_status nphdi_trailer_decode_directory(const char *name, const uint8_t *directory,
                                           nphdi_trailer *trailer, nphd_error *err);

/* Sets the places of directory and footer behind the last section and writes both; returns the
 * bytes written: directory_bytes + NPHDI_TRAILER_FOOTER_BYTES. */
size_t nphdi_trailer_encode_end(
    nphdi_trailer *trailer,
    uint8_t out[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES]);

/* The section with this id, or NULL. */
const nphdi_trailer_section *nphdi_trailer_find(const nphdi_trailer *trailer, uint32_t id);

/* Blocks that cover `bytes` bytes. */
static inline uint64_t nphdi_trailer_blocks(uint64_t bytes)
{
    return bytes / NPHDI_TRAILER_BLOCK_BYTES + (bytes % NPHDI_TRAILER_BLOCK_BYTES != 0);
}

#endif
