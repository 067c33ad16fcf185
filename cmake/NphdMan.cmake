# Manual pages of the calls and types, made of the public headers. Without Python there are none of
# them, and libnphd(3) still is.

find_package(Python3 COMPONENTS Interpreter QUIET)
if(Python3_Interpreter_FOUND)
    set(NPHD_MAN_DIR ${PROJECT_BINARY_DIR}/man/man3)
    set(NPHD_MAN_STAMP ${PROJECT_BINARY_DIR}/man/made)
    add_custom_command(OUTPUT ${NPHD_MAN_STAMP}
        COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/make_man --output ${NPHD_MAN_DIR}
            ${NPHD_PUBLIC_HEADERS}
        COMMAND ${CMAKE_COMMAND} -E touch ${NPHD_MAN_STAMP}
        DEPENDS ${PROJECT_SOURCE_DIR}/tools/make_man ${PROJECT_SOURCE_DIR}/man/libnphd.3
            ${NPHD_PUBLIC_HEADERS}
        COMMENT "Making the manual pages of the calls"
        VERBATIM)
    add_custom_target(nphd_man ALL DEPENDS ${NPHD_MAN_STAMP})
endif()
