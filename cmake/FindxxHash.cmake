# Finds the header of libxxhash (0.8 or later) and defines xxHash::xxhash. The hash is compiled in
# (XXH_INLINE_ALL in the files that include it), so that nobody needs xxHash where the library runs
# or is linked. By a search for the header rather than by pkg-config, so that it works the same in a
# cross build.
find_path(XXHASH_INCLUDE_DIR xxhash.h)
mark_as_advanced(XXHASH_INCLUDE_DIR)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(xxHash REQUIRED_VARS XXHASH_INCLUDE_DIR
    REASON_FAILURE_MESSAGE "xxhash.h is missing, on Debian apt-get install libxxhash-dev")

if(xxHash_FOUND AND NOT TARGET xxHash::xxhash)
    add_library(xxHash::xxhash INTERFACE IMPORTED)
    target_include_directories(xxHash::xxhash SYSTEM INTERFACE "${XXHASH_INCLUDE_DIR}")
endif()
