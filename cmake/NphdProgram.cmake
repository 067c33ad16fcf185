# The nphd program, on the public headers alone. It carries the library inside, so that it runs
# from any prefix.

file(GLOB NPHD_PROGRAM_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cli/*.c)
if(NPHD_PROGRAM_SOURCES)
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
    find_path(CSV_INCLUDE_DIR csv.h REQUIRED)
    find_library(CSV_LIBRARY csv REQUIRED)
    mark_as_advanced(CSV_INCLUDE_DIR CSV_LIBRARY)

    add_executable(nphd_program ${NPHD_PROGRAM_SOURCES})
    set_target_properties(nphd_program PROPERTIES OUTPUT_NAME nphd)
    target_include_directories(nphd_program PRIVATE ${PROJECT_SOURCE_DIR}/src ${CSV_INCLUDE_DIR})
    target_link_libraries(nphd_program PRIVATE nphd_flags nphd_static PkgConfig::JANSSON
        PkgConfig::SODIUM ${CSV_LIBRARY})
endif()
