# Each fuzz/fuzz_X.c defines LLVMFuzzerTestOneInput. Tests replay fuzz/corpus/X with a small main;
# with NPHD_FUZZ_ENGINE the same file also becomes a libFuzzer program.

file(GLOB NPHD_FUZZ_TARGETS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/fuzz/fuzz_*.c)
file(GLOB NPHD_FUZZ_SUPPORT CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/fuzz/*.c)
if(NPHD_FUZZ_TARGETS)
    list(REMOVE_ITEM NPHD_FUZZ_SUPPORT ${NPHD_FUZZ_TARGETS})
endif()
list(REMOVE_ITEM NPHD_FUZZ_SUPPORT ${PROJECT_SOURCE_DIR}/fuzz/replay_main.c)
# the disk in memory, for targets that open whole directories
file(GLOB NPHD_FUZZ_DISK CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/support/io_memory*.c)
list(APPEND NPHD_FUZZ_SUPPORT ${NPHD_FUZZ_DISK})

function(nphd_fuzz_program name)
    add_executable(${name} ${ARGN} ${NPHD_FUZZ_SUPPORT})
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src
        ${PROJECT_SOURCE_DIR}/fuzz ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE nphd_flags nphd_static Threads::Threads m)
endfunction()

foreach(source IN LISTS NPHD_FUZZ_TARGETS)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" name ${name})
    if(NPHD_FUZZ_ENGINE)
        nphd_fuzz_program(fuzz_${name} ${source})
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    endif()
    if(NPHD_BUILD_TESTS)
        nphd_fuzz_program(replay_${name} ${source} ${PROJECT_SOURCE_DIR}/fuzz/replay_main.c)
        add_test(NAME replay_${name}
            COMMAND replay_${name} ${PROJECT_SOURCE_DIR}/fuzz/corpus/${name})
        nphd_test_properties(replay_${name} replay)
    endif()
endforeach()
