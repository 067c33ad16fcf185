/* Arbitrary bytes as a bloom filter, where they begin as one, and else as the head of tombstones.
 * What is read is used, and says the same when it is written again. */
#include "base/error.h"
#include "filters/bloom.h"
#include "formats/isbf_format.h"
#include "formats/npy_format.h"
#include "platform/platform.h"
#include "use_index.h"

#include <stdbool.h>
#include <string.h>

/* Longer chains get no further filter: it may have 32 times their size. */
#define MAX_GROWING_BYTES 32768

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct fuzz_bytes {
    const uint8_t *data;
    size_t bytes;
    size_t at;
} fuzz_bytes;

static nphd_status take(void *context, void *out, uint64_t bytes, nphd_error *err)
{
    fuzz_bytes *file = context;

    (void)err;
    FUZZ_CHECK(bytes <= file->bytes - file->at);
    memcpy(out, file->data + file->at, (size_t)bytes);
    file->at += (size_t)bytes;
    return NPHD_OK;
}

/* Everything must come out as it was read. */
static nphd_status compare(void *context, const void *data, uint64_t bytes, nphd_error *err)
{
    fuzz_bytes *file = context;

    (void)err;
    FUZZ_CHECK(bytes <= file->bytes - file->at);
    FUZZ_CHECK(memcmp(file->data + file->at, data, (size_t)bytes) == 0);
    file->at += (size_t)bytes;
    return NPHD_OK;
}

static void use_bloom(nphdi_bloom *bloom, fuzz_bytes *file)
{
    nphd_key key = nphd_key_u64(0x0123456789abcdefU);

    FUZZ_CHECK(nphdi_bloom_file_bytes(bloom) == file->bytes);
    file->at = 0;
    FUZZ_CHECK(nphdi_bloom_write(bloom, file->bytes, compare, file, NULL) == NPHD_OK);
    FUZZ_CHECK(file->at == file->bytes);
    if (file->bytes <= MAX_GROWING_BYTES) {
        FUZZ_CHECK(nphdi_bloom_reserve(bloom, 1, NULL) == NPHD_OK);
    }
    for (key.high = 0; key.high < 3; key.high++, key.low += file->bytes) {
        nphdi_bloom_add(bloom, key);
        FUZZ_CHECK(nphdi_bloom_maybe(bloom, key));
    }
}

static void read_bloom(const uint8_t *data, size_t bytes, uint32_t key_bytes)
{
    fuzz_bytes file = {data, bytes, 0};
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_bloom *bloom;
    const nphd_status status = nphdi_bloom_read(nphdi_allocator_system(), key_bytes, "fuzz", bytes,
                                                take, &file, &bloom, &err);

    FUZZ_CHECK((status == NPHD_OK) == (bloom != NULL));
    FUZZ_CHECK(status == NPHD_OK || err.text[0] != '\0');
    if (bloom != NULL) {
        FUZZ_CHECK(file.at == bytes);
        use_bloom(bloom, &file);
    }
    nphdi_bloom_close(bloom);
}

static void read_npy(const uint8_t *data, size_t bytes)
{
    uint8_t again[NPHDI_NPY_HEAD_BYTES];
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t head_bytes;
    uint32_t key_bytes[2];
    uint64_t count[2];

    if (bytes < NPHDI_NPY_PREFIX_BYTES ||
        nphdi_npy_decode_prefix("fuzz", data, &head_bytes, &err) != NPHD_OK || head_bytes > bytes) {
        return;
    }
    FUZZ_CHECK(head_bytes <= NPHDI_NPY_MAX_HEAD_BYTES);
    if (nphdi_npy_decode_head("fuzz", data, head_bytes, &key_bytes[0], &count[0], &err) !=
        NPHD_OK) {
        FUZZ_CHECK(err.text[0] != '\0' && key_bytes[0] == 0 && count[0] == 0);
        return;
    }
    FUZZ_CHECK(count[0] <= (UINT64_MAX - head_bytes) / key_bytes[0]);
    nphdi_npy_encode_head(key_bytes[0], count[0], again);
    FUZZ_CHECK(nphdi_npy_decode_head("fuzz", again, sizeof(again), &key_bytes[1], &count[1],
                                     NULL) == NPHD_OK ||
               count[0] > (UINT64_MAX - sizeof(again)) / key_bytes[0]);
    FUZZ_CHECK(key_bytes[1] == 0 || (key_bytes[0] == key_bytes[1] && count[0] == count[1]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes > 0 && data[0] == 'I') {
        read_bloom(data, bytes, 8);
        read_bloom(data, bytes, 16);
    } else {
        read_npy(data, bytes);
    }
    return 0;
}
