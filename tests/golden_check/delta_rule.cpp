#include "golden_check/matrix_kernels.hpp"

namespace aviary::golden_check {

template void check_matrix<test::DeltaNetGolden>(std::filesystem::path const&, Report&);
template void check_matrix<test::GatedDeltaNetGolden>(std::filesystem::path const&, Report&);
template void check_matrix<test::KdaGolden>(std::filesystem::path const&, Report&);

}  // namespace aviary::golden_check
