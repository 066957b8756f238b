#pragma once
/// The processes of one run, on one machine or on many: "mpirun -n 2 train ...". Without MPI, or without mpirun, there is one.
#include <array>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

#if defined(AVIARY_MPI)
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <vector>
#endif

#include "aviary/core/config.hpp"
#include "aviary/core/namespace.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Thrown in a rank that is to end because another one failed, which says why.
struct FailedElsewhere {};

/// There is one, from the beginning of main to its end, and all that is computed is the same in every rank but for its number.
/// The main thread alone calls it. All ranks make the same calls in the same order; a rank that dies ends all of them.
class Ranks {
 public:
  using Index = aviary::Index;

  /// A program that no launcher started is alone, and leaves MPI alone. Throws std::runtime_error for one that was built
  /// without MPI, or for another one, than a launcher started several times: each would do all the work.
  Ranks() {
#if defined(AVIARY_MPI)
    constexpr std::array ranks{"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};  // by Open MPI, Slurm, MPICH
    if (std::ranges::any_of(ranks, [](char const* name) { return std::getenv(name) != nullptr; })) begin();
#endif
    for (char const* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
      char const* const size = std::getenv(name);
      if (size != nullptr && size_ == 1 && std::atol(size) > 1)
        throw std::runtime_error("expected a build with the MPI whose mpirun started it, found one of " +
                                 std::string(size) + " processes that know of no other");
    }
  }
#if defined(AVIARY_MPI)
  ~Ranks() {
    if (has_begun_) MPI_Finalize();
  }
#endif
  Ranks(Ranks const&) = delete;
  Ranks& operator=(Ranks const&) = delete;

  Index size() const noexcept { return size_; }
  Index rank() const noexcept { return rank_; }
  bool is_first() const noexcept { return rank_ == 0; }

  /// Replaces each number, a float or a double, by its sum over all ranks: the same bits in each.
  template <class T> void sum([[maybe_unused]] std::span<T> numbers) const {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
#if defined(AVIARY_MPI)
    if (size_ == 1) return;
    constexpr std::size_t most = std::size_t{1} << 30;  // a count is an int
    for (std::size_t at = 0; at < numbers.size(); at += most)
      MPI_Allreduce(MPI_IN_PLACE, numbers.data() + at, static_cast<int>(std::min(most, numbers.size() - at)),
                    std::is_same_v<T, float> ? MPI_FLOAT : MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
#endif
  }

  /// Calls f() in every rank, and returns the largest of the numbers that it returns. If it throws in some ranks, this throws
  /// in all: in the first of those what f threw, in all others FailedElsewhere. So no rank waits for one that is gone.
  template <class F> long together(F&& f) const {
    std::array<long, 2> found{};  // what f returned; from the end, the first rank that failed
    std::exception_ptr thrown;
    long const from_end = static_cast<long>(size_ - rank_);
    try {
      found[0] = f();
    } catch (...) {
      thrown = std::current_exception();
      found[1] = from_end;
    }
#if defined(AVIARY_MPI)
    if (size_ > 1) MPI_Allreduce(MPI_IN_PLACE, found.data(), 2, MPI_LONG, MPI_MAX, MPI_COMM_WORLD);
#endif
    if (found[1] == 0) return found[0];
    if (found[1] == from_end) std::rethrow_exception(thrown);
    throw FailedElsewhere{};
  }

  /// Replaces each element by those of all ranks before this one, composed in their order by compose(earlier, later, out),
  /// which is associative. Those of the first rank stay as they are, as nothing is before it.
  template <auto compose, class T> void compose_before([[maybe_unused]] std::span<T> elements) const {
    static_assert(std::is_trivially_copyable_v<T>);
#if defined(AVIARY_MPI)
    if (size_ == 1) return;
    MPI_Datatype type;
    MPI_Type_contiguous(static_cast<int>(sizeof(T)), MPI_BYTE, &type);
    MPI_Type_commit(&type);
    MPI_Op operation;
    MPI_Op_create(
        [](void* before, void* after, int* count, MPI_Datatype*) {
          T earlier, later, out;  // MPI's own memory is less aligned
          for (int i = 0; i < *count; ++i) {
            std::byte* const to = static_cast<std::byte*>(after) + static_cast<std::size_t>(i) * sizeof(T);
            std::memcpy(&earlier, static_cast<std::byte*>(before) + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
            std::memcpy(&later, to, sizeof(T));
            compose(earlier, later, out);
            std::memcpy(to, &out, sizeof(T));
          }
        },
        0, &operation);
    std::vector<T> before(elements.size());
    MPI_Exscan(elements.data(), before.data(), static_cast<int>(elements.size()), type, operation, MPI_COMM_WORLD);
    if (rank_ > 0) std::ranges::copy(before, elements.begin());
    MPI_Op_free(&operation);
    MPI_Type_free(&type);
#endif
  }

 private:
#if defined(AVIARY_MPI)
  void begin() {
    int level = 0, size = 1, rank = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
    if (level < MPI_THREAD_FUNNELED) throw std::runtime_error("MPI: expected one that allows for threads, found none");
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    size_ = size, rank_ = rank, has_begun_ = true;
  }

  bool has_begun_ = false;
#endif
  Index size_ = 1, rank_ = 0;
};

}  // namespace AVIARY_ISA
}  // namespace models
