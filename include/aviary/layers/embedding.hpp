#pragma once
/// The table that makes vectors of token ids.
#include <concepts>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/executor.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/dense/weights.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE {

/// A range of integers with a size: a vector, an array or a span of any integer type.
template <class Range>
concept TokenIds = requires(Range const& ids) {
  requires std::integral<std::remove_cvref_t<decltype(*std::begin(ids))>>;
  { std::size(ids) } -> std::convertible_to<std::size_t>;
};

/// A row of numbers for each token of a vocabulary. Copies share the table.
template <class T> class Embedding {
 public:
  /// Copies the table (vocabulary, C) and keeps it in the format. A token reads one row, so q8 and q4 would save no
  /// time: they mean bf16 here.
  /// @throws std::invalid_argument for an empty table
  explicit Embedding(WeightMatrix table, WeightFormat format = WeightFormat::exact)
      : vocab_size_(table.rows()), channels_(table.columns()) {
    if (vocab_size_ <= 0 || channels_ <= 0)
      detail::refuse("Embedding: the table is " + std::to_string(vocab_size_) + " x " + std::to_string(channels_) +
                     ", expected at least one token and channel");
    NumberFormat const kept = format.resolve<T>(table);
    if (kept == format_of<T>)
      keep<T>(table);
    else if (kept == NumberFormat::f16)
      keep<f16>(table);
    else
      keep<bf16>(table);
  }

  Index vocab_size() const noexcept { return vocab_size_; }
  Index channels() const noexcept { return channels_; }

  /// Writes row ids[t] of the table to row t of x (tokens, C). Ids are 0 ... vocab_size() - 1.
  template <TokenIds Ids> void operator()(Ids const& ids, MatView<T> x) const noexcept {
    AVIARY_ASSERT(static_cast<Index>(std::size(ids)) == x.rows() && x.columns() == channels_);
    std::visit(
        [&](auto const& table) {
          Index t = 0;
          for (auto const id : ids) {
            Index const row = static_cast<Index>(id);
            AVIARY_ASSERT(0 <= row && row < vocab_size_);
            convert(table.data() + row * channels_, x[t++].data(), channels_);
          }
        },
        *table_);
  }

 private:
  using Table = std::variant<AlignedVector<T>, AlignedVector<bf16>, AlignedVector<f16>>;

  template <class S> void keep(WeightMatrix const& from) {
    AlignedVector<S> table(to_size(vocab_size_ * channels_));
    for (Index i = 0; i < vocab_size_; ++i) from.read(i, 0, channels_, table.data() + i * channels_);
    table_ = std::make_shared<Table const>(std::move(table));
  }

  Index vocab_size_, channels_;
  std::shared_ptr<Table const> table_;
};

/// Adds row t of dx (tokens, C), what reached the row of token ids[t], to that row of the table's gradient. Tokens are added
/// in their order, whatever the executor.
///   Cost: one addition for each number of dx. It does not allocate.
/// @param dtable  (vocabulary, C)
template <class T, TokenIds Ids, class E = Serial>
void add_embedding_gradient(Ids const& ids, MatView<T const> dx, MatView<T> dtable, E&& executor = {}) {
  constexpr Index stretch = 64;  // channels of a task
  AVIARY_ASSERT(static_cast<Index>(std::size(ids)) == dx.rows() && dx.columns() == dtable.columns());
  Index const c = dx.columns(), stretches = (c + stretch - 1) / stretch;
  detail::share_out(executor, stretches, dx.rows() * c, [&](Index begin, Index end) noexcept {
    Index const first = begin * stretch, n = std::min(end * stretch, c) - first;
    Index t = 0;
    for (auto const id : ids) {
      T* const to = dtable[static_cast<Index>(id)].data() + first;
      simd::transform(
          n, to, [](auto const& sum, auto const& e) { return sum + e; }, static_cast<T const*>(to),
          dx[t++].data() + first);
    }
  });
}

}  // namespace AVIARY_NAMESPACE
