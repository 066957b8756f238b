# What holds of the objects that one program has for several instruction sets. Scripts include it; on its own it checks the
# objects of a target with aviary_add_instruction_sets, in their order on the link line:
#   cmake -DNM=nm -DOBJDUMP=objdump "-DOBJECTS=main.o|..." -DNAMES=6aviary -DAT_LEAST=100 -P tests/builds/sets_apart.cmake
cmake_minimum_required(VERSION 3.25)

# aviary_check_sets_apart(NAMES regex AT_LEAST n BASELINE object... OTHERS object...)  fails unless
#   no inline function or constant whose name matches is in two sets (the linker would keep one for both), and each set has
#   at least n of them. For avx512, vnni and amx xsimd has the same functions, and the first of these sets has the oldest
#   instructions;
#   no set needs anything of another, but for the tables of functions, which the baseline knows, and what is not inline of the
#   baseline, which runs everywhere;
#   nothing that the others do before main is for newer processors.
function(aviary_check_sets_apart)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAMES;AT_LEAST" "BASELINE;OTHERS")
  set(sets BASELINE ${arg_OTHERS})
  foreach(set IN LISTS sets)
    set(objects "${set}")
    if(set STREQUAL "BASELINE")
      set(objects ${arg_BASELINE})
    endif()
    execute_process(COMMAND "${NM}" ${objects} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[0-9a-f]+ [A-Zu] [^\n]+" defined "${symbols}")
    string(REGEX MATCHALL " [Uvw] [^\n]+" "needed_${set}" "${symbols}")
    list(TRANSFORM defined REPLACE "^[0-9a-f]+ " "")
    list(REMOVE_DUPLICATES defined)
    set(count 0)
    foreach(symbol IN LISTS defined)
      string(REGEX REPLACE "^. " "" name "${symbol}")
      set(compared FALSE)
      if(set STREQUAL "BASELINE" AND symbol MATCHES "^[TDBR]")
        set("everywhere_${name}" TRUE)
      endif()
      if(symbol MATCHES "^[uVW]" AND name MATCHES "${arg_NAMES}")
        set(compared TRUE)
        math(EXPR count "${count} + 1")
      endif()
      if(NOT DEFINED "home_of_${name}")
        set("home_of_${name}" "${set}")
      elseif(
        compared
        AND NOT (name MATCHES "5xsimd" AND NOT name MATCHES "6aviary"
                 AND "${home_of_${name}} ${set}" MATCHES "_(avx512|vnni)\\.cpp[^ ]* .*_(vnni|amx)\\.cpp[^ ]*$")
      )
        message(SEND_ERROR "sets_apart: both ${home_of_${name}} and ${set} have ${name}")
      endif()
    endforeach()
    if(count LESS arg_AT_LEAST)
      message(FATAL_ERROR "sets_apart: ${set}: expected at least ${arg_AT_LEAST} functions to compare, found ${count}")
    endif()
    if(NOT set STREQUAL "BASELINE")
      string(REGEX MATCHALL "_GLOBAL__(sub_)?I_[^\n]+" starts "${symbols}")
      foreach(start IN LISTS starts)
        execute_process(
          COMMAND "${OBJDUMP}" --no-show-raw-insn -j .text -j .text.startup "--disassemble=${start}" "${set}"
          OUTPUT_VARIABLE code ERROR_QUIET
        )
        if(NOT code MATCHES "<${start}>:")
          message(FATAL_ERROR "sets_apart: ${set}: ${OBJDUMP} does not find ${start}")
        elseif(code MATCHES "\t(v[a-z0-9]+) ")
          message(SEND_ERROR "sets_apart: ${set}: before main, ${start} uses ${CMAKE_MATCH_1}")
        endif()
      endforeach()
    endif()
  endforeach()

  foreach(set IN LISTS sets)
    foreach(symbol IN LISTS "needed_${set}")
      string(REGEX REPLACE "^ . " "" name "${symbol}")
      if(DEFINED "home_of_${name}"
         AND NOT home_of_${name} STREQUAL set
         AND NOT DEFINED "everywhere_${name}"
         AND NOT (set STREQUAL "BASELINE" AND name MATCHES "^_ZN6aviary8dispatch7EntriesI.*E5tableE$")
      )
        message(SEND_ERROR "sets_apart: ${set} needs ${name} of ${home_of_${name}}")
      endif()
    endforeach()
  endforeach()
endfunction()

# aviary_check_objects_apart(NAMES regex AT_LEAST n OBJECTS object...)  the same for all objects of a target, and that they
# are in the order that aviary_add_instruction_sets promises.
function(aviary_check_objects_apart)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAMES;AT_LEAST" "OBJECTS")
  set(objects ${arg_OBJECTS})
  set(others)
  foreach(set IN ITEMS amx vnni avx512 avx2)
    list(POP_BACK objects object)
    if(NOT object MATCHES "_${set}\\.cpp[^ ]*$")
      message(FATAL_ERROR "sets_apart: expected baseline, avx2, avx512, vnni, amx at the end, found ${arg_OBJECTS}")
    endif()
    list(PREPEND others "${object}")
  endforeach()
  if(NOT objects MATCHES "_baseline\\.cpp[^;]*$")
    message(FATAL_ERROR "sets_apart: expected the object of baseline before those of other sets, found ${arg_OBJECTS}")
  endif()
  aviary_check_sets_apart(NAMES "${arg_NAMES}" AT_LEAST "${arg_AT_LEAST}" BASELINE ${objects} OTHERS ${others})
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  string(REPLACE "|" ";" OBJECTS "${OBJECTS}")
  aviary_check_objects_apart(NAMES "${NAMES}" AT_LEAST "${AT_LEAST}" OBJECTS ${OBJECTS})
endif()
