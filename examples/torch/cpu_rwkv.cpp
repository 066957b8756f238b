#include "cpu.hpp"

TORCH_LIBRARY_IMPL(aviary, CPU, library) {
  aviary_torch::implement<aviary_torch::Cpu>(library, aviary_torch::RwkvRules());
}
