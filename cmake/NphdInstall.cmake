# What `make install` puts under the prefix.

include(CMakePackageConfigHelpers)

install(FILES ${NPHD_PUBLIC_HEADERS} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nphd)
install(TARGETS nphd_shared EXPORT nphd-targets DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS nphd_static EXPORT nphd-targets DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET nphd_program)
    install(TARGETS nphd_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

foreach(section RANGE 1 7)
    file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/man/*.${section})
    if(pages)
        install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
    endif()
endforeach()
if(TARGET nphd_man)
    install(DIRECTORY ${NPHD_MAN_DIR} DESTINATION ${CMAKE_INSTALL_MANDIR})
endif()

# Documents as they lie in the tree, so that the links between them lead somewhere.
set(NPHD_DOC_FILES LICENSE README.md CHANGELOG.md CONTRIBUTING.md)
list(TRANSFORM NPHD_DOC_FILES PREPEND ${PROJECT_SOURCE_DIR}/)
install(FILES ${NPHD_DOC_FILES} DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs ${PROJECT_SOURCE_DIR}/examples
    DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING
    PATTERN "*.md" PATTERN "*.png" PATTERN "*.c" PATTERN "*.csv")

# pkg-config: the prefix is that of the .pc file itself, so that an installation can be moved.
file(RELATIVE_PATH NPHD_PC_PREFIX
    ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" NPHD_PC_PREFIX "${NPHD_PC_PREFIX}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/nphd.pc.in ${PROJECT_BINARY_DIR}/nphd.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/nphd.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# find_package(nphd): nphd::nphd is the shared library, nphd::nphd_static the other.
set(NPHD_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/nphd)
install(EXPORT nphd-targets NAMESPACE nphd:: DESTINATION ${NPHD_PACKAGE_DIR})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/nphd-config.cmake.in
    ${PROJECT_BINARY_DIR}/nphd-config.cmake INSTALL_DESTINATION ${NPHD_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nphd-config-version.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES
    ${PROJECT_BINARY_DIR}/nphd-config.cmake
    ${PROJECT_BINARY_DIR}/nphd-config-version.cmake
    DESTINATION ${NPHD_PACKAGE_DIR})
