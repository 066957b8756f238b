#include "golden_check/matrix_kernels.hpp"

namespace aviary::golden_check {

template void check_matrix<test::DplrGolden>(std::filesystem::path const&, Report&);
template void check_matrix<test::IplrGolden>(std::filesystem::path const&, Report&);
template void check_matrix<test::GlaGolden>(std::filesystem::path const&, Report&);

}  // namespace aviary::golden_check
