# Run after the link: cmake -DNM=... -DLIBRARY=... -P check_exports.cmake
# Whatever else a library exports can meet a symbol of the same name in the application's other libraries.
execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "could not list the symbols of ${LIBRARY}")
endif()
string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
list(LENGTH lines count)
if(NOT count EQUAL 1 OR NOT lines MATCHES "^[0-9a-f]+ T JNI_OnLoad$")
  message(FATAL_ERROR "${LIBRARY} exports\n${symbols}expected JNI_OnLoad alone")
endif()
