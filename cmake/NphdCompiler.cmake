# The flags that every C file of the project is compiled with.

set(NPHD_WARNINGS
    -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wcast-align
    -Wundef -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wdouble-promotion)

add_library(nphd_flags INTERFACE)
target_compile_definitions(nphd_flags INTERFACE _GNU_SOURCE)
target_compile_options(nphd_flags INTERFACE
    ${NPHD_WARNINGS}
    -fvisibility=hidden
    -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=
    $<$<BOOL:${NPHD_WERROR}>:-Werror>)

# Distances are the same on every machine: no fused operations that the source does not write, and
# float arithmetic in float also where gcc's strict C11 would use double (s390x).
target_compile_options(nphd_flags INTERFACE -ffp-contract=off)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^s390x?$")
    target_compile_options(nphd_flags INTERFACE -fexcess-precision=fast)
endif()

if(NPHD_SANITIZE)
    target_compile_options(nphd_flags INTERFACE
        -fsanitize=${NPHD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
    target_link_options(nphd_flags INTERFACE -fsanitize=${NPHD_SANITIZE})
endif()
if(NPHD_COVERAGE)
    # threads count as well: a count that two of them spoil is one that gcovr refuses to read
    target_compile_options(nphd_flags INTERFACE --coverage -fprofile-update=atomic)
    target_link_options(nphd_flags INTERFACE --coverage)
endif()
if(NPHD_FUZZ_ENGINE)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "NPHD_FUZZ_ENGINE needs clang: CC=clang, or the preset `fuzz`")
    endif()
    target_compile_options(nphd_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
