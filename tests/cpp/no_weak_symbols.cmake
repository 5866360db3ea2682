# Run by ctest: cmake -DNM=... -DARCHIVE=... -P no_weak_symbols.cmake
#
# A weak symbol in a kernel object is an inline function compiled for a wide instruction set; the linker may keep that
# copy for the whole program, which then dies on an older CPU. Unoptimised builds show it best: nothing is inlined there.
execute_process(COMMAND ${NM} --defined-only ${ARCHIVE} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "could not list the symbols of ${ARCHIVE}")
endif()
string(REPLACE "\n" ";" lines "${symbols}")
set(object "")
set(kernel_objects 0)
foreach(line IN LISTS lines)
  if(line MATCHES "^(.*)\\.o:$")
    set(object "${CMAKE_MATCH_1}")
    if(object MATCHES "^(avx2|avx512|neon|scalar)\\.cpp$")
      math(EXPR kernel_objects "${kernel_objects} + 1")
    endif()
  elseif(object MATCHES "^(avx2|avx512|neon|scalar)\\.cpp$" AND line MATCHES " [WVu] ")
    message(SEND_ERROR "${object} exports a weak symbol: ${line}")
  endif()
endforeach()
if(kernel_objects EQUAL 0)
  message(SEND_ERROR "found no kernel object in ${ARCHIVE}: the check is blind")
endif()
