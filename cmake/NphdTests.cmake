# Every test is found by its name: tests/<kind>/test_X.c becomes the ctest test <kind>_X with the
# label <kind>; tests/cli/X.case becomes cli_X. Tests run in the root of the source tree, whose
# path they also have as NPHD_SOURCE_DIR (a macro and an environment variable).

set(NPHD_TEST_TIMEOUT 300 CACHE STRING "Seconds after which a test has failed")
option(NPHD_ALL_TESTS "Fail where cmocka is missing, rather than leave out the tests in C" OFF)

find_package(Python3 REQUIRED COMPONENTS Interpreter)

# nphd_test_properties(<name> <label>...)
function(nphd_test_properties name)
    set_tests_properties(${name} PROPERTIES
        LABELS "${ARGN}"
        TIMEOUT ${NPHD_TEST_TIMEOUT}
        WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
        ENVIRONMENT "NPHD_SOURCE_DIR=${PROJECT_SOURCE_DIR};PYTHONDONTWRITEBYTECODE=1")
endfunction()

# ---- tests in C (NphdTestsC) and what the crash tests kill ----

add_library(nphd_test_flags INTERFACE)
target_include_directories(nphd_test_flags INTERFACE ${PROJECT_SOURCE_DIR}/src
    ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/tests/support)
target_compile_definitions(nphd_test_flags INTERFACE NPHD_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
target_link_libraries(nphd_test_flags INTERFACE nphd_flags nphd_static xxHash::xxhash
    Threads::Threads m)
include(NphdTestsC)

file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/crash/tool_*.c)
add_executable(crash_tool ${sources})
set_target_properties(crash_tool PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
target_link_libraries(crash_tool PRIVATE nphd_test_flags)
if(NOT CMAKE_CROSSCOMPILING AND NOT NPHD_SANITIZE)
    add_test(NAME crash_processes COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/run_crash
        --tool $<TARGET_FILE:crash_tool> --small --only L3,L9)
    nphd_test_properties(crash_processes crash)
endif()

# ---- tests of the program ----

if(TARGET nphd_program)
    file(GLOB cases CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/cli/*.case)
    foreach(case IN LISTS cases)
        get_filename_component(name ${case} NAME_WE)
        add_test(NAME cli_${name} COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tests/cli/run.py --nphd $<TARGET_FILE:nphd_program>
            --source-dir ${PROJECT_SOURCE_DIR} ${case})
        nphd_test_properties(cli_${name} cli)
    endforeach()
    if(EXISTS ${PROJECT_SOURCE_DIR}/tests/cli/man_examples.py)
        add_test(NAME cli_man_examples COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tests/cli/man_examples.py --nphd $<TARGET_FILE:nphd_program>
            --source-dir ${PROJECT_SOURCE_DIR})
        nphd_test_properties(cli_man_examples cli)
        set_tests_properties(cli_man_examples PROPERTIES COST 100) # many commands: start it early
    endif()
    foreach(name json_lines coprocess)
        add_test(NAME cli_${name} COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tests/cli/${name}.py --nphd $<TARGET_FILE:nphd_program>)
        nphd_test_properties(cli_${name} cli)
    endforeach()
    foreach(name progress signals)
        add_test(NAME cli_${name} COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tests/cli/${name}.py --nphd $<TARGET_FILE:nphd_program>
            --source-dir ${PROJECT_SOURCE_DIR})
        nphd_test_properties(cli_${name} cli)
    endforeach()
    set_tests_properties(cli_signals PROPERTIES COST 50)
endif()

# ---- checks of the tree and of what is built from it ----

if(NOT CMAKE_CROSSCOMPILING)
    foreach(check IN ITEMS layers words bugs)
        add_test(NAME check_${check} COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tools/check_${check})
        nphd_test_properties(check_${check} check)
    endforeach()

    # The preset `coverage` builds without optimisation, which keeps functions of xxHash's header
    # that nothing calls, two of which ask for memory.
    if(NOT NPHD_COVERAGE)
        add_test(NAME check_symbols COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tools/check_symbols --nm ${CMAKE_NM} $<TARGET_FILE:nphd_static>)
        nphd_test_properties(check_symbols check)
    endif()

    add_test(NAME check_exports COMMAND Python3::Interpreter
        ${PROJECT_SOURCE_DIR}/tools/check_exports --nm ${CMAKE_NM} $<TARGET_FILE:nphd_shared>)
    nphd_test_properties(check_exports check)

    # Needs debugging information, and is of the processor that the dump is of.
    find_program(NPHD_ABIDW NAMES abidw)
    mark_as_advanced(NPHD_ABIDW)
    if(NPHD_ABIDW AND CMAKE_BUILD_TYPE STREQUAL "Debug" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64"
            AND NOT NPHD_SANITIZE AND NOT NPHD_COVERAGE)
        add_test(NAME check_abi COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tools/check_abi $<TARGET_FILE:nphd_shared>)
        nphd_test_properties(check_abi check)
    elseif(NOT NPHD_ABIDW)
        message(STATUS "abidw is missing (on Debian: abigail-tools): no check of the interface")
    endif()

    # Each public header alone, in both languages.
    add_test(NAME headers_c11 COMMAND Python3::Interpreter
        ${PROJECT_SOURCE_DIR}/tests/headers/compile_alone.py --language c --compiler
        ${CMAKE_C_COMPILER} -- ${NPHD_WARNINGS})
    nphd_test_properties(headers_c11 check)
    find_program(NPHD_CXX NAMES $ENV{CXX} c++ g++ clang++)
    mark_as_advanced(NPHD_CXX)
    if(NPHD_CXX)
        set(cxx_warnings ${NPHD_WARNINGS})
        list(REMOVE_ITEM cxx_warnings -Wstrict-prototypes -Wmissing-prototypes)
        add_test(NAME headers_cxx17 COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tests/headers/compile_alone.py --language c++ --compiler
            ${NPHD_CXX} -- ${cxx_warnings} -Wmissing-declarations)
        nphd_test_properties(headers_cxx17 check)
    else()
        message(STATUS "no C++ compiler: the headers are not tried as C++17")
    endif()

    if(NOT NPHD_SANITIZE AND NOT NPHD_COVERAGE AND NOT NPHD_FUZZ_ENGINE)
        add_test(NAME install COMMAND Python3::Interpreter
            ${PROJECT_SOURCE_DIR}/tests/install/run.py --cmake ${CMAKE_COMMAND}
            --build-dir ${PROJECT_BINARY_DIR} --compiler ${CMAKE_C_COMPILER})
        nphd_test_properties(install check)
    endif()

    find_program(NPHD_MANDOC NAMES mandoc)
    mark_as_advanced(NPHD_MANDOC)
    set(mandoc)
    if(NPHD_MANDOC)
        set(mandoc --mandoc ${NPHD_MANDOC})
    endif()
    add_test(NAME check_man COMMAND Python3::Interpreter
        ${PROJECT_SOURCE_DIR}/tests/readme/check_man.py --source-dir ${PROJECT_SOURCE_DIR} ${mandoc})
    nphd_test_properties(check_man check)

    set(sample_flags)
    if(NPHD_SANITIZE)
        list(APPEND sample_flags --flag=-fsanitize=${NPHD_SANITIZE})
    endif()
    if(NPHD_COVERAGE)
        list(APPEND sample_flags --flag=--coverage)
    endif()
    add_test(NAME readme_samples COMMAND Python3::Interpreter
        ${PROJECT_SOURCE_DIR}/tests/readme/run_samples.py --compiler ${CMAKE_C_COMPILER}
        --library $<TARGET_FILE:nphd_static> ${sample_flags})
    nphd_test_properties(readme_samples check)
endif()
