# Each bench/bench_X.c is a program; other files there are shared by all of them.

file(GLOB NPHD_BENCHES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/bench_*.c)
file(GLOB NPHD_BENCH_SUPPORT CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.c)
if(NPHD_BENCHES)
    list(REMOVE_ITEM NPHD_BENCH_SUPPORT ${NPHD_BENCHES})
endif()
foreach(source IN LISTS NPHD_BENCHES)
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source} ${NPHD_BENCH_SUPPORT})
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src
        ${PROJECT_SOURCE_DIR}/bench ${PROJECT_SOURCE_DIR}/tests)
    target_compile_definitions(${name} PRIVATE NPHD_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
        NPHD_BUILD_TYPE="${CMAKE_BUILD_TYPE}")
    target_link_libraries(${name} PRIVATE nphd_flags nphd_static Threads::Threads m)
endforeach()
