#pragma once
/// Reading the tensors of a checkpoint: which generation it is, and weights checked one by one.
#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/core/view.hpp"
#include "aviary/dense/weights.hpp"
#include "aviary/io/tensor.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/layers/low_rank_token_shift.hpp"
#include "models/model.hpp"
#include "models/threads.hpp"

namespace models {

enum class Generation { unknown, rwkv4, rwkv5_0, rwkv5_1, rwkv5_2, rwkv6, rwkv7, goldfinch };

constexpr std::string_view name_of(Generation generation) noexcept {
  switch (generation) {
    case Generation::rwkv4:
      return "RWKV-4";
    case Generation::rwkv5_0:
      return "RWKV-5.0";
    case Generation::rwkv5_1:
      return "RWKV-5.1";
    case Generation::rwkv5_2:
      return "RWKV-5.2";
    case Generation::rwkv6:
      return "RWKV-6";
    case Generation::rwkv7:
      return "RWKV-7";
    case Generation::goldfinch:
      return "GoldFinch";
    case Generation::unknown:
      break;
  }
  return "unknown";
}

/// The generation of a checkpoint, from names and, among those of RWKV-5, from the shape of the decay: it has a number of
/// each head, or of each channel from 5.2 on.
template <class File> Generation generation_of(File const& file) {
  auto const names = file.names();
  auto const find = [&](std::string_view part) {
    return std::ranges::find_if(names, [&](auto name) { return name.find(part) != name.npos; });
  };
  auto const has = [&](std::string_view part) { return find(part) != names.end(); };
  if (has("w_kv_cache_a")) return Generation::goldfinch;
  if (has(".att.r_k")) return Generation::rwkv7;
  if (has(".att.time_maa")) return Generation::rwkv6;
  auto const decay = find(".att.time_decay");
  if (decay == names.end()) return Generation::unknown;
  if (!has(".att.ln_x.weight")) return Generation::rwkv4;
  auto const shape = file.tensor(*decay).shape;
  if (shape.size() == 2 && shape[1] > 1) return Generation::rwkv5_2;
  return has(".att.gate.weight") ? Generation::rwkv5_1 : Generation::rwkv5_0;
}

/// 1 + the largest i of "blocks.i.".
template <class File> Index count_layers(File const& file) {
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

/// Reads tensors of one file as numbers of type T. Views of what it has read are valid until forget(). Whatever is
/// missing or has an unexpected dtype or shape throws std::runtime_error with file, tensor, expected and found.
template <class T, class File> class WeightReader {
 public:
  explicit WeightReader(File const& file) : file_(file) {}

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
    aviary::WeightMatrix found;
    with_numbers(tensor, [&](auto numbers) { found = aviary::MatView(numbers, tensor.shape[0], tensor.shape[1]); });
    return found;
  }
  /// The same for N matrices of equal sizes, stored as [N, rows, columns].
  template <Index N>
  std::array<aviary::WeightMatrix, aviary::to_size(N)> matrices(std::string const& name, Index rows, Index columns) {
    aviary::Tensor const tensor = take(name, {N, rows, columns});
    std::array<aviary::WeightMatrix, aviary::to_size(N)> found;
    with_numbers(tensor, [&](auto numbers) {
      for (auto& matrix : found) {
        matrix = aviary::MatView(numbers, tensor.shape[1], tensor.shape[2]);
        numbers += tensor.shape[1] * tensor.shape[2];
      }
    });
    return found;
  }

  /// `name`.weight and `name`.bias of c channels.
  aviary::LayerNorm<T> layer_norm(std::string const& name, Index c) {
    auto const weight = vector(name + ".weight", c);
    return {weight, vector(name + ".bias", c)};
  }

  /// Counts a tensor as read.
  void skip(std::string const& name) { used_.insert(name); }
  /// Frees the numbers read so far.
  void forget() { numbers_.clear(); }

  /// Tensors that nobody read.
  std::vector<std::string> unused() const {
    std::vector<std::string> names;
    for (std::string_view const name : file_.names())
      if (!used_.contains(std::string(name))) names.emplace_back(name);
    return names;
  }

 private:
  aviary::Tensor take(std::string const& name) {
    used_.insert(name);
    return file_.tensor(name);
  }
  aviary::Tensor take(std::string const& name, std::initializer_list<std::int64_t> shape) {
    aviary::Tensor const tensor = take(name).expect_shape(shape);
    if (tensor.size() == 0)
      throw std::runtime_error(
          tensor.message("expected sizes above 0, found shape " + aviary::detail::shape_text(tensor.shape)));
    return tensor;
  }
  /// f(pointer) to the numbers where they lie in the file, or as T where that cannot be.
  template <class F> void with_numbers(aviary::Tensor const& tensor, F&& f) {
    bool const in_place = with_element(tensor.dtype, [&]<class S>() {
      if constexpr (aviary::Stored<S>)
        if (auto const numbers = tensor.in_place<S>()) {
          f(numbers->data());
          return true;
        }
      return false;
    });
    if (!in_place) f(read(tensor));
  }
  T const* read(aviary::Tensor const& tensor) { return numbers_.emplace_back(tensor.template read<T>()).data(); }

  File const& file_;
  std::deque<std::vector<T>> numbers_;
  std::set<std::string> used_;
};

/// How GoldFinch keeps the compressed keys of its cache.
enum class CacheFormat {
  full,  ///< the model's number type
  bf16,
  f16,
  int8  ///< with a scale for each key
};

/// As command lines call them.
inline constexpr std::array<std::pair<std::string_view, CacheFormat>, 4> cache_formats{
    {{"full", CacheFormat::full}, {"bf16", CacheFormat::bf16}, {"f16", CacheFormat::f16}, {"int8", CacheFormat::int8}}};

constexpr std::string_view name_of(CacheFormat format) noexcept {
  return format == CacheFormat::full ? "full numbers" : cache_formats[static_cast<std::size_t>(format)].first;
}

struct LoadOptions {
  double group_norm_eps = 64e-5;                              ///< of ln_x (RWKV-5, 6, 7); no file stores it
  aviary::WeightFormat format = aviary::WeightFormat::exact;  ///< of all matrices
  Threads threads = Threads();
  CacheFormat cache = CacheFormat::full;   ///< of GoldFinch
  bool keep_keys = false;                  ///< GoldFinch: spend memory on rebuilt keys and values, not arithmetic
  std::optional<double> rotary_base = {};  ///< GoldFinch: of a rotary embedding; no file stores it
};

/// Reads the tensors of one block, under their names within it: "att.key.weight" is "blocks.3.att.key.weight".
template <class T, class File> class BlockReader {
 public:
  /// Of `channels` channels. Keeps references to all but the numbers.
  BlockReader(File const& file, WeightReader<T, File>& read, Index layer, Index channels, LoadOptions const& options)
      : file_(file),
        read_(read),
        layer_(layer),
        channels_(channels),
        options_(options),
        prefix_("blocks." + std::to_string(layer) + ".") {}

  File const& file() const noexcept { return file_; }
  Index layer() const noexcept { return layer_; }
  Index channels() const noexcept { return channels_; }
  T group_norm_eps() const noexcept { return static_cast<T>(options_.group_norm_eps); }
  aviary::WeightFormat format() const noexcept { return options_.format; }
  bool contains(std::string const& name) const { return file_.contains(prefix_ + name); }

  /// @name As those of WeightReader
  ///@{
  aviary::VecView<T const> vector(std::string const& name, Index size) { return read_.vector(prefix_ + name, size); }
  aviary::VecView<T const> vector(std::string const& name) { return vector(name, channels_); }
  aviary::MatView<T const> table(std::string const& name, std::initializer_list<std::int64_t> shape) {
    return read_.table(prefix_ + name, shape);
  }
  aviary::WeightMatrix matrix(std::string const& name, Index rows, Index columns) {
    return read_.matrix(prefix_ + name, rows, columns);
  }
  template <Index N> auto matrices(std::string const& name, Index rows, Index columns) {
    return read_.template matrices<N>(prefix_ + name, rows, columns);
  }
  void skip(std::string const& name) { read_.skip(prefix_ + name); }
  ///@}

  /// The factors `name`1 and `name`2 of a low-rank map from the block's channels. Their rank is what the file says.
  std::array<aviary::WeightMatrix, 2> factors(std::string const& name, Index out) {
    aviary::WeightMatrix const first = matrix(name + "1", channels_, aviary::dynamic);
    return {first, matrix(name + "2", first.columns(), out)};
  }

  /// A shift by low-rank maps: base, `factors`1 [C, N D], `factors`2 [N, D, C] (or [D, C] where N is 1), and the shares of
  /// its slices.
  template <Index N>
  typename aviary::LowRankTokenShift<T, N>::Weights token_shift(
      std::string const& base, std::string const& factors, std::array<char const*, aviary::to_size(N)> const& mix) {
    typename aviary::LowRankTokenShift<T, N>::Weights w{
        .base = vector(base), .w1 = {}, .w2 = {}, .mix = make_rows<N>(mix), .format = format()};
    if constexpr (N == 1)
      w.w2[0] = matrix(factors + "2", aviary::dynamic, channels_);
    else
      w.w2 = matrices<N>(factors + "2", aviary::dynamic, channels_);
    w.w1 = matrix(factors + "1", channels_, N * w.w2[0].rows());
    return w;
  }

  /// The channel mix, whose token shifts are called ffn.`mix`k and, where there is a receptance, ffn.`mix`r.
  aviary::ChannelMix<T> channel_mix(std::string const& mix, aviary::ShareOf shares, bool has_receptance) {
    aviary::WeightMatrix const key = matrix("ffn.key.weight", aviary::dynamic, channels_);
    typename aviary::ChannelMix<T>::Weights w{.x_k = vector("ffn." + mix + "k"),
                                              .key = key,
                                              .value = matrix("ffn.value.weight", channels_, key.rows()),
                                              .shares = shares,
                                              .format = format()};
    if (has_receptance) {
      w.x_r = vector("ffn." + mix + "r");
      w.receptance = matrix("ffn.receptance.weight", channels_, channels_);
    }
    return aviary::ChannelMix<T>(w);
  }

  /// The block around its mixes.
  template <class TimeMix> aviary::Block<TimeMix> block(TimeMix time_mix, aviary::ChannelMix<T> channel_mix) {
    return {read_.layer_norm(prefix_ + "ln1", channels_), std::move(time_mix),
            read_.layer_norm(prefix_ + "ln2", channels_), std::move(channel_mix)};
  }

 private:
  template <Index N>
  std::array<aviary::VecView<T const>, aviary::to_size(N)> make_rows(
      std::array<char const*, aviary::to_size(N)> const& names) {
    return [&]<std::size_t... n>(std::index_sequence<n...>) { return std::array{vector(names[n])...}; }
    (std::make_index_sequence<aviary::to_size(N)>{});
  }

  File const& file_;
  WeightReader<T, File>& read_;
  Index layer_, channels_;
  LoadOptions const& options_;
  std::string prefix_;
};

/// A model, and the tensors of its file that it has no use for.
struct Loaded {
  std::unique_ptr<Model> model;
  std::vector<std::string> unused;
};

}  // namespace models
