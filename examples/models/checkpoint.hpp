#pragma once
/// Reading the tensors of a checkpoint: weights checked one by one.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <deque>
#include <initializer_list>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/core/view.hpp"
#include "aviary/io/fingerprint.hpp"
#include "aviary/io/weights.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/layers/low_rank_token_shift.hpp"
#include "models/any.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// 1 + the largest i of "blocks.i.".
inline Index count_layers(aviary::TensorFile const& file) {
  constexpr std::string_view prefix = "blocks.";
  Index layers = 0;
  for (std::string_view const name : file.names()) {
    if (!name.starts_with(prefix)) continue;
    char const* const end = name.data() + name.size();
    Index i = 0;
    auto const [rest, error] = std::from_chars(name.data() + prefix.size(), end, i);
    if (error == std::errc() && rest != end && *rest == '.' && 0 <= i && i < PTRDIFF_MAX)
      layers = std::max(layers, i + 1);
  }
  return layers;
}

/// The head stays q8 where the other matrices are q4: all of its error is in the logits, which have 2 to 10 times as much of it
/// with a head of q4 (small trained models of RWKV-4, 6 and 7).
inline aviary::WeightFormat format_of_head(aviary::WeightFormat format) {
  return format.fixed() == aviary::NumberFormat::q4
             ? aviary::WeightFormat(aviary::NumberFormat::q8, format.arithmetic())
             : format;
}

/// Reads tensors of one file as numbers of type T. Views of what it has read are valid until forget(), or as long as the file
/// where numbers of T lie in it as they are needed. Whatever is missing or has an unexpected dtype or shape throws
/// std::runtime_error with file, tensor, expected and found.
template <class Number> class WeightReader {
 public:
  using T = Number;
  using As = aviary::GivenWeights<T>;

  /// `format` is what layers will keep matrices as: q8 and q4 have no number that is not finite.
  explicit WeightReader(aviary::TensorFile const& file, aviary::WeightFormat format = aviary::WeightFormat::exact)
      : file_(file), format_(format) {}

  /// (size) numbers, stored as [size] or [1, 1, size].
  aviary::VecView<T const> vector(std::string const& name, Index size) {
    aviary::Tensor const tensor = take(name);
    if (tensor.shape.size() == 3)
      tensor.expect_shape({1, 1, size});
    else
      tensor.expect_shape({size});
    return {read(tensor), tensor.size()};
  }
  /// Numbers of a shape, in which aviary::dynamic fits any size above 0, as rows of its last size.
  aviary::MatView<T const> table(std::string const& name, std::initializer_list<std::int64_t> shape) {
    aviary::Tensor const tensor = take(name, shape);
    Index const columns = tensor.shape.back();
    return {read(tensor), tensor.size() / columns, columns};
  }
  /// The weights of a linear map, as they lie in the file where that is possible. Sizes may be aviary::dynamic likewise.
  aviary::WeightMatrix matrix(std::string const& name, Index rows, Index columns) {
    aviary::Tensor const tensor = take(name, {rows, columns});
    check_kept(tensor);
    return weights_.emplace_back(tensor);
  }
  /// The same for N matrices of equal sizes, stored as [N, rows, columns].
  template <Index N>
  std::array<aviary::WeightMatrix, aviary::to_size(N)> matrices(std::string const& name, Index rows, Index columns) {
    aviary::Tensor const tensor = take(name, {N, rows, columns});
    check_kept(tensor);
    std::array<aviary::WeightMatrix, aviary::to_size(N)> found;
    for (Index i = 0; i < N; ++i) found[aviary::to_size(i)] = weights_.emplace_back(tensor[i]);
    return found;
  }

  /// e to the power of the numbers of a table.
  aviary::MatView<T const> exponentials(std::string const& name, std::initializer_list<std::int64_t> shape) {
    aviary::MatView<T const> const exponents = table(name, shape);
    std::vector<T>& numbers =
        numbers_.emplace_back(exponents.data(), exponents.data() + exponents.rows() * exponents.columns());
    for (T& e : numbers) e = std::exp(e);
    return {numbers.data(), exponents.rows(), exponents.columns()};
  }

  /// `name`.weight and `name`.bias of c channels.
  aviary::LayerNorm<T> layer_norm(std::string const& name, Index c) {
    auto const weight = vector(name + ".weight", c);
    return {weight, vector(name + ".bias", c)};
  }

  /// Says that the model has no use for a tensor.
  void skip(std::string const& name) { skipped_.insert(name); }
  /// Frees the numbers read so far, and the memory of the file that they were read from.
  void forget() {
    numbers_.clear();
    weights_.clear();
    for (aviary::Tensor const& tensor : taken_) file_.release(tensor);
    taken_.clear();
  }

  /// Of all that was read.
  aviary::Fingerprint fingerprint() const noexcept { return fingerprint_; }

  /// The names of the tensors that were read.
  std::set<std::string, std::less<>> const& used() const noexcept { return used_; }
  /// Tensors that nobody read or skipped.
  std::vector<std::string> unused() const {
    std::vector<std::string> names;
    for (std::string_view const name : file_.names())
      if (!used_.contains(name) && !skipped_.contains(name)) names.emplace_back(name);
    return names;
  }

 private:
  aviary::Tensor take(std::string const& name) {
    aviary::Tensor const tensor = taken_.emplace_back(file_.tensor(name));
    if (used_.insert(name).second) fingerprint_.add(tensor);
    return tensor;
  }
  aviary::Tensor take(std::string const& name, std::initializer_list<std::int64_t> shape) {
    aviary::Tensor const tensor = take(name).expect_shape(shape);
    if (tensor.size() == 0)
      throw std::runtime_error(
          tensor.message("expected sizes above 0, found shape " + aviary::shape_text(tensor.shape)));
    return tensor;
  }
  /// Layers refuse such numbers as well, but do not know in which tensor they are.
  void check_kept(aviary::Tensor const& tensor) const {
    auto const format = format_.fixed();
    if (format != aviary::NumberFormat::q8 && format != aviary::NumberFormat::q4) return;
    std::vector<float> row(aviary::to_size(tensor.size() / tensor.shape[0]));
    for (Index i = 0; i < tensor.shape[0]; ++i) {
      tensor[i].read_into(row);
      for (float const x : row)
        if (!std::isfinite(x))
          throw std::runtime_error(tensor.message("row " + std::to_string(i) + " holds " + std::to_string(x) +
                                                  ", expected finite numbers for " + std::string(name_of(*format))));
    }
  }
  T const* read(aviary::Tensor const& tensor) {
    if (auto const numbers = tensor.in_place<T>()) return numbers->data();
    return numbers_.emplace_back(tensor.read<T>()).data();
  }

  aviary::TensorFile const& file_;
  aviary::WeightFormat format_;
  std::deque<std::vector<T>> numbers_;
  std::deque<aviary::TensorWeights> weights_;
  std::vector<aviary::Tensor> taken_;  // of which these are
  std::set<std::string, std::less<>> used_, skipped_;
  aviary::Fingerprint fingerprint_;
};

/// Reads the tensors of one block, under their names within it: "att.key.weight" is "blocks.3.att.key.weight". What they are
/// read as is up to the Source, a WeightReader or a GradientReader.
template <class Source> class BlockReader {
 public:
  using T = typename Source::T;
  using As = typename Source::As;
  using Vector = typename As::Vector;
  using Matrix = typename As::Matrix;
  using Table = typename As::Table;

  /// Reads a block of `channels` channels. Keeps references to the file and to `read`.
  BlockReader(aviary::TensorFile const& file, Source& read, Index layer, Index channels, LoadOptions const& options)
      : file_(file),
        read_(read),
        layer_(layer),
        channels_(channels),
        options_(options),
        prefix_("blocks." + std::to_string(layer) + ".") {}

  aviary::TensorFile const& file() const noexcept { return file_; }
  Index layer() const noexcept { return layer_; }
  Index channels() const noexcept { return channels_; }
  T group_norm_eps() const noexcept { return static_cast<T>(options_.group_norm_eps); }
  aviary::WeightFormat format() const noexcept { return options_.format; }
  bool contains(std::string const& name) const { return file_.contains(prefix_ + name); }

  /// @name As those of WeightReader
  ///@{
  Vector vector(std::string const& name, Index size) { return read_.vector(prefix_ + name, size); }
  Vector vector(std::string const& name) { return vector(name, channels_); }
  Table table(std::string const& name, std::initializer_list<std::int64_t> shape) {
    return read_.table(prefix_ + name, shape);
  }
  Table exponentials(std::string const& name, std::initializer_list<std::int64_t> shape) {
    return read_.exponentials(prefix_ + name, shape);
  }
  Matrix matrix(std::string const& name, Index rows, Index columns) {
    return read_.matrix(prefix_ + name, rows, columns);
  }
  template <Index N> auto matrices(std::string const& name, Index rows, Index columns) {
    return read_.template matrices<N>(prefix_ + name, rows, columns);
  }
  void skip(std::string const& name) { read_.skip(prefix_ + name); }
  ///@}

  /// The factors `name`1 and `name`2 of a low-rank map from the block's channels. Their rank is what the file says.
  std::array<Matrix, 2> factors(std::string const& name, Index out) {
    Matrix const first = matrix(name + "1", channels_, aviary::dynamic);
    return {first, matrix(name + "2", first.columns(), out)};
  }

  /// A shift by low-rank maps: base, `factors`1 [C, N D], `factors`2 [N, D, C] (or [D, C] where N is 1), and the shares of
  /// its slices.
  template <Index N>
  typename aviary::LowRankTokenShift<T, N>::template Parameters<As> token_shift(
      std::string const& base, std::string const& factors, std::array<char const*, aviary::to_size(N)> const& mix) {
    typename aviary::LowRankTokenShift<T, N>::template Parameters<As> w{
        .base = vector(base), .w1 = {}, .w2 = {}, .mix = make_rows<N>(mix), .format = format()};
    if constexpr (N == 1)
      w.w2[0] = matrix(factors + "2", aviary::dynamic, channels_);
    else
      w.w2 = matrices<N>(factors + "2", aviary::dynamic, channels_);
    w.w1 = matrix(factors + "1", channels_, N * w.w2[0].rows());
    return w;
  }

  /// A trained first state, if the file has one.
  Table first_state(Index heads, Index size) {
    return contains("att.time_state") ? table("att.time_state", {heads, size, size}) : As::no_table();
  }

  /// A block with this time mix. The token shifts of its channel mix are called ffn.`mix`k and, where there is a receptance,
  /// ffn.`mix`r.
  template <class Block>
  typename Block::template Parameters<As> block(typename Block::TimeMix::template Parameters<As> time_mix,
                                                std::string const& mix, aviary::ShareOf shares, bool has_receptance) {
    return {.ln1_weight = vector("ln1.weight"),
            .ln1_bias = vector("ln1.bias"),
            .time_mix = std::move(time_mix),
            .ln2_weight = vector("ln2.weight"),
            .ln2_bias = vector("ln2.bias"),
            .channel_mix = channel_mix(mix, shares, has_receptance)};
  }

 private:
  typename aviary::ChannelMix<T>::template Parameters<As> channel_mix(std::string const& mix, aviary::ShareOf shares,
                                                                      bool has_receptance) {
    Matrix const key = matrix("ffn.key.weight", aviary::dynamic, channels_);
    typename aviary::ChannelMix<T>::template Parameters<As> w{
        .x_k = vector("ffn." + mix + "k"),
        .key = key,
        .value = matrix("ffn.value.weight", channels_, key.rows()),
        .shares = shares,
        .format = format()};
    if (has_receptance) {
      w.x_r = vector("ffn." + mix + "r");
      w.receptance = matrix("ffn.receptance.weight", channels_, channels_);
    }
    return w;
  }

  template <Index N>
  std::array<Vector, aviary::to_size(N)> make_rows(std::array<char const*, aviary::to_size(N)> const& names) {
    return [&]<std::size_t... n>(std::index_sequence<n...>) { return std::array{vector(names[n])...}; }
    (std::make_index_sequence<aviary::to_size(N)>{});
  }

  aviary::TensorFile const& file_;
  Source& read_;
  Index layer_, channels_;
  LoadOptions options_;
  std::string prefix_;
};

}  // namespace AVIARY_ISA
}  // namespace models
