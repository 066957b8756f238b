#include "golden_check/matrix_kernels.hpp"

namespace aviary::golden_check {

template void check_matrix<test::Wkv5PerHeadGolden>(std::filesystem::path const&, Report&);
template void check_matrix<test::Wkv5Golden>(std::filesystem::path const&, Report&);
template void check_matrix<test::Wkv6Golden>(std::filesystem::path const&, Report&);
template void check_matrix<test::Wkv7Golden>(std::filesystem::path const&, Report&);

}  // namespace aviary::golden_check
