/* Arbitrary bytes as an index file: loaded, viewed, searched, copied and saved again. */
#include "use_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_open(data, bytes);
    return 0;
}
