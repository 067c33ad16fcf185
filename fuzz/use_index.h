/* What fuzz targets do with an index that was opened over arbitrary bytes. */
#ifndef USE_INDEX_H
#define USE_INDEX_H

#include <nphd/nphd.h>

/* Ends the program when a condition does not hold, also without asserts. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fuzz_fail(__FILE__, __LINE__, #condition);                                             \
        }                                                                                          \
    } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

/* An index whose memory comes without system calls. */
nphd_index *fuzz_create(const nphd_index_options *options);

/* Looks, searches, copies, saves. `checked`: loaded or verified content, which no call may find
 * corrupt; it is changed and saved again. */
void fuzz_use(nphd_index *index, bool checked);

/* Loads and views the bytes, from memory of exactly that length, and uses what opens. */
void fuzz_open(const uint8_t *data, size_t bytes);

#endif
