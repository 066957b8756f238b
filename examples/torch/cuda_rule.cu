#include "cuda.hpp"

TORCH_LIBRARY_IMPL(aviary, CUDA, library) { aviary_torch::implement_on_gpu<AVIARY_TORCH_RULE>(library); }
