/* A stranger's program: creates an index, finds in it, and prints the version of the library. */
#include <nphd/nphd.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    static const uint8_t bits[2][8] = {{0xf0, 1, 2, 3, 4, 5, 6, 7}, {0x0f, 1, 2, 3, 4, 5, 6, 7}};
    const nphd_vector query = {bits[1], 4};
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_error error = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    nphd_match match;
    nphd_search_report report;

    options.max_bits = 64;
    if (nphd_index_create(&options, &index, &error) != NPHD_OK ||
        nphd_index_add(index, nphd_key_u64(1), (nphd_vector){bits[0], 8}, NULL, &error) !=
            NPHD_OK ||
        nphd_index_add(index, nphd_key_u64(2), (nphd_vector){bits[1], 8}, NULL, &error) !=
            NPHD_OK ||
        nphd_index_search(index, query, 1, NULL, &match, &report, &error) != NPHD_OK) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    nphd_index_close(index);
    if (report.count != 1 || match.key.low != 2 || !report.exact) {
        (void)fprintf(stderr, "the nearest vector was not found\n");
        return 1;
    }
    if (strcmp(nphd_version(), NPHD_VERSION_TEXT) != 0) {
        (void)fprintf(stderr, "headers of %s, library of %s\n", NPHD_VERSION_TEXT, nphd_version());
        return 1;
    }
    (void)puts(nphd_version());
    return 0;
}
