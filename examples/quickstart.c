/* Two fingerprints of different length, saved to a file, and those nearest to a query. */
#include <inttypes.h>
#include <nphd/nphd.h>
#include <stdio.h>

int main(void)
{
    const uint8_t bits[] = {0x0f, 0xf0, 0x33, 0xcc, 0x55, 0xaa, 0x00, 0xff};
    const nphd_vector vectors[] = {{bits, 8}, {bits, 4}}; /* of 64 and of 32 bits */
    const nphd_vector query = {(const uint8_t *)"\x0f\xf0\x33\xcd\x55\xaa\x00\xff", 8};
    const nphd_key keys[] = {nphd_key_u64(1), nphd_key_u64(2)};
    nphd_match matches[2];
    nphd_search_report report = {0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *index = NULL;

    if (nphd_index_create(NULL, &index, &err) != NPHD_OK ||
        nphd_index_add_many(index, keys, vectors, 2, NULL, NULL, NULL, &err) != NPHD_OK ||
        nphd_index_save(index, "quickstart.usearch", NULL, &err) != NPHD_OK ||
        nphd_index_search(index, query, 2, NULL, matches, &report, &err) != NPHD_OK) {
        fprintf(stderr, "%s\n", err.text);
    }
    for (size_t i = 0; i < report.count; i++) {
        printf("key %" PRIu64 ", distance %.6f\n", matches[i].key.low, (double)matches[i].distance);
    }
    nphd_index_close(index);
    return err.status == NPHD_OK ? 0 : 1;
}
