#pragma once
/// The table that makes vectors of token ids.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>

#include "aviary/core/error.hpp"
#include "aviary/dense/weights.hpp"

namespace aviary {

/// A row of numbers for each token of a vocabulary. Copies share the table.
template <class T> class Embedding {
 public:
  /// Copies the table (vocabulary, C), in the format. A row is read for a token, so q8 would save no time: it keeps bf16.
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

  /// x (tokens, C): row ids[t] of the table, for ids from 0 to vocab_size() - 1.
  template <class Id> void operator()(std::span<Id const> ids, MatView<T> x) const noexcept {
    AVIARY_ASSERT(static_cast<Index>(ids.size()) == x.rows() && x.columns() == channels_);
    std::visit(
        [&](auto const& table) {
          for (Index t = 0; t < x.rows(); ++t)
            convert(table.data() + static_cast<Index>(ids[to_size(t)]) * channels_, &x(t, 0), channels_);
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

}  // namespace aviary
