# The library: compiled once, linked as libnphd.a and libnphd.so.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(xxHash REQUIRED)

set(NPHD_LAYERS base platform kernels formats filters graph scan index sharded join)
set(NPHD_SOURCES)
foreach(layer IN LISTS NPHD_LAYERS)
    file(GLOB layer_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${layer}/*.c)
    list(APPEND NPHD_SOURCES ${layer_sources})
endforeach()
file(GLOB NPHD_PUBLIC_HEADERS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/nphd/*.h)

# One kernel file per instruction set; the rest is built for the architecture's baseline.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/kernels_avx2.c PROPERTIES
        COMPILE_OPTIONS "-mavx2;-mpopcnt;-mbmi2")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/kernels_avx512vpopcntdq.c
        PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512vl;-mavx512vpopcntdq;-mbmi2;-mpopcnt")
endif()

add_library(nphd_objects OBJECT ${NPHD_SOURCES})
set_target_properties(nphd_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(nphd_objects PRIVATE ${PROJECT_SOURCE_DIR}/src
    PUBLIC ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(nphd_objects PRIVATE nphd_flags xxHash::xxhash Threads::Threads)

foreach(kind IN ITEMS static shared)
    string(TOUPPER ${kind} kind_upper)
    add_library(nphd_${kind} ${kind_upper} $<TARGET_OBJECTS:nphd_objects>)
    target_include_directories(nphd_${kind} PUBLIC
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    target_link_libraries(nphd_${kind} PRIVATE $<BUILD_INTERFACE:nphd_flags> Threads::Threads m)
    set_target_properties(nphd_${kind} PROPERTIES OUTPUT_NAME nphd LINKER_LANGUAGE C)
endforeach()
# As an installed package names them, for those who add this folder to their project.
add_library(nphd::nphd ALIAS nphd_shared)
add_library(nphd::nphd_static ALIAS nphd_static)
set_target_properties(nphd_shared PROPERTIES
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} # before 1.0 a minor version may change calls
    EXPORT_NAME nphd)
if(NOT NPHD_SANITIZE AND NOT NPHD_FUZZ_ENGINE)
    target_link_options(nphd_shared PRIVATE LINKER:--no-undefined LINKER:-z,relro,-z,now)
endif()
