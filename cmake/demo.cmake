# Builds and runs the demonstration:  cmake -P cmake/demo.cmake
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/bootstrap.cmake")

# Programs, in the order of running; words after the name are arguments.
set(aviary_demo
    "hello" "state_tracking" "bench_wkv7 --short"
    "generate --prompt 'In the beginning ' --length 400 --temperature 0.8 --seed 1"
)

set(targets)
foreach(line IN LISTS aviary_demo)
  string(REGEX MATCH "^[^ ]+" target "${line}")
  list(APPEND targets ${target})
endforeach()

aviary_install_dependencies()
aviary_configure(release)
aviary_build(release ${targets})

foreach(line IN LISTS aviary_demo)
  separate_arguments(command UNIX_COMMAND "${line}")
  list(POP_FRONT command program)
  aviary_say("")
  aviary_run("${program}" "${aviary_root}/build/release/bin/${program}" ${command})
endforeach()

aviary_say("")
aviary_say("This text is by the small model in examples/weights. With an RWKV checkpoint (.safetensors or .pth):")
aviary_say("  build/release/bin/generate --model FILE --vocab VOCABULARY --prompt TEXT --length 100")
