# Counts the instructions that kernels take for a token and head, and compares them with those of instructions.txt: a
# difference of more than 3% is an error, a gain too. A count does not depend on what else the machine does.
#   cmake -DPROGRAM=build/release/bin/count_instructions -DWORK_DIR=build/counts -P bench/counts/compare.cmake
# with -DWRITE=ON writes instructions.txt in place of that.
cmake_minimum_required(VERSION 3.25)
set(file "${CMAKE_CURRENT_LIST_DIR}/instructions.txt")
set(per_mille 30)

# skip(WHY)  leaves, with words that ctest takes for a test that is skipped.
macro(skip)
  message(STATUS "Skipped: " ${ARGN})
  return()
endmacro()

if(NOT PROGRAM)
  skip("instructions are counted with g++ on x86-64, and with the headers of valgrind")
endif()
find_program(VALGRIND valgrind)
if(NOT VALGRIND)
  skip("valgrind is not installed")
endif()
file(STRINGS /proc/cpuinfo avx2 REGEX " avx2 " LIMIT_COUNT 1)
if(NOT avx2)
  skip("this machine has no AVX2")
endif()
execute_process(
  COMMAND "${PROGRAM}" --versions OUTPUT_VARIABLE versions OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY
)
set(committed_versions)
if(EXISTS "${file}")
  file(STRINGS "${file}" lines REGEX "^[^#]")
  list(POP_FRONT lines committed_versions)
endif()
if(NOT WRITE AND NOT versions STREQUAL committed_versions)
  skip("the counts of instructions.txt are for ${committed_versions}, this is ${versions}")
endif()

# --- count ----------------------------------------------------------------------------------------------------------------
file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}")
execute_process(
  COMMAND "${VALGRIND}" --tool=callgrind --instr-atstart=no "--callgrind-out-file=${WORK_DIR}/dump" "${PROGRAM}"
  RESULT_VARIABLE status
  OUTPUT_VARIABLE said
  ERROR_VARIABLE said
)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status} under callgrind:\n${said}")
endif()

# A dump says what it counted, "NAME TOKENS", and how much.
file(GLOB dumps "${WORK_DIR}/dump.*")
list(SORT dumps COMPARE NATURAL)
set(names)
foreach(dump IN LISTS dumps)
  file(STRINGS "${dump}" head REGEX "^(desc: Trigger|summary): ")
  if("${head}" MATCHES "Client Request: ([^ ]+) ([0-9]+);summary: ([0-9]+)")
    list(APPEND names "${CMAKE_MATCH_1}")
    math(EXPR found_${CMAKE_MATCH_1} "(${CMAKE_MATCH_3} + ${CMAKE_MATCH_2} / 2) / ${CMAKE_MATCH_2}")
  endif()
endforeach()
if(NOT names)
  message(FATAL_ERROR "callgrind has counted nothing:\n${said}")
endif()

# --- write, or compare ----------------------------------------------------------------------------------------------------
# pad(VARIABLE TEXT WIDTH)  a column: words to the left, numbers (WIDTH < 0) to the right.
function(pad variable text width)
  string(LENGTH "${text}" length)
  if(width LESS 0)
    math(EXPR spaces "-(${width}) - ${length}")
  else()
    math(EXPR spaces "${width} - ${length}")
  endif()
  if(spaces LESS 0)
    set(spaces 0)
  endif()
  string(REPEAT " " ${spaces} space)
  if(width LESS 0)
    set(${variable} "${space}${text}" PARENT_SCOPE)
  else()
    set(${variable} "${text}${space}" PARENT_SCOPE)
  endif()
endfunction()

if(WRITE)
  set(text
      "# Instructions for a token and head of 64 x 64 floats (wkv4: for a token of 64 channels), AVX2, -O3. T: tokens of a call.\n"
      "# bench/README.md says how they are counted, compared and written.\n${versions}\n"
  )
  foreach(name IN LISTS names)
    pad(left "${name}" 32)
    pad(right "${found_${name}}" -8)
    list(APPEND text "${left}${right}\n")
  endforeach()
  list(JOIN text "" text)
  file(WRITE "${file}" "${text}")
  list(LENGTH names count)
  message(STATUS "${count} counts written to ${file}")
  return()
endif()

set(committed_names)
foreach(line IN LISTS lines)
  if(NOT line MATCHES "^([^ ]+) +([1-9][0-9]*)$")
    message(FATAL_ERROR "${file}: expected a name and a count, found '${line}'")
  endif()
  list(APPEND committed_names "${CMAKE_MATCH_1}")
  set(committed_${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()

# row(WHAT COMMITTED FOUND DIFFERENCE)  of the table of what differs.
set(table)
macro(row what committed found difference)
  pad(what_column "${what}" 32)
  pad(committed_column "${committed}" -12)
  pad(found_column "${found}" -12)
  pad(difference_column "${difference}" -14)
  string(APPEND table "  ${what_column}${committed_column}${found_column}${difference_column}\n")
endmacro()
row("what" "committed" "found" "difference")

set(differences 0)
set(all_names ${names} ${committed_names})
list(REMOVE_DUPLICATES all_names)
foreach(name IN LISTS all_names)
  if(NOT name IN_LIST committed_names)
    row("${name}" "-" "${found_${name}}" "new")
  elseif(NOT name IN_LIST names)
    row("${name}" "${committed_${name}}" "-" "gone")
  else()
    math(EXPR more "${found_${name}} - ${committed_${name}}")
    set(sign "+")
    if(more LESS 0)
      set(sign "-")
      math(EXPR more "-(${more})")
    endif()
    math(EXPR allowed "${committed_${name}} * ${per_mille}")
    math(EXPR thousandfold "${more} * 1000")
    if(thousandfold LESS_EQUAL allowed)
      continue()
    endif()
    math(EXPR tenths "(${thousandfold} + ${committed_${name}} / 2) / ${committed_${name}}")
    math(EXPR whole "${tenths} / 10")
    math(EXPR tenth "${tenths} % 10")
    row("${name}" "${committed_${name}}" "${found_${name}}" "${sign}${whole}.${tenth}%")
  endif()
  math(EXPR differences "${differences} + 1")
endforeach()

list(LENGTH all_names count)
if(differences GREATER 0)
  message(
    NOTICE
    "Instructions for a token and head, ${versions}: ${differences} of ${count} counts differ by more than 3%.\n${table}"
  )
  message(
    FATAL_ERROR
      "Where more was not meant, mend the kernel. Where it was, or there are fewer, commit the new counts. This writes them:\n"
      "  cmake --build --preset release --target write_instruction_counts\n"
  )
endif()
message(STATUS "Instructions for a token and head, ${versions}: ${count} counts, all within 3% of the committed ones")
