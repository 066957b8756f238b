#pragma once
/// Reading the tensors of a checkpoint: which generation it is, and weights checked one by one.
#include <algorithm>
#include <charconv>
#include <deque>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "aviary/core/view.hpp"
#include "aviary/io/tensor.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/weights.hpp"
#include "models/model.hpp"
#include "models/threads.hpp"

namespace models {

enum class Generation { unknown, rwkv4, rwkv5, rwkv6, rwkv7 };

constexpr std::string_view name_of(Generation generation) noexcept {
  switch (generation) {
    case Generation::rwkv4:
      return "RWKV-4";
    case Generation::rwkv5:
      return "RWKV-5";
    case Generation::rwkv6:
      return "RWKV-6";
    case Generation::rwkv7:
      return "RWKV-7";
    case Generation::unknown:
      break;
  }
  return "unknown";
}

/// The generation of a checkpoint, from names alone.
template <class File> Generation generation_of(File const& file) {
  auto const has = [&](std::string_view part) {
    return std::ranges::any_of(file.names(), [&](auto name) { return name.find(part) != name.npos; });
  };
  if (has(".att.r_k")) return Generation::rwkv7;
  if (has(".att.time_maa")) return Generation::rwkv6;
  if (!has(".att.time_decay")) return Generation::unknown;
  return has(".att.ln_x.weight") ? Generation::rwkv5 : Generation::rwkv4;
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
  /// The same as rows; either size may be aviary::dynamic, it is then read from the file, and at least 1.
  aviary::MatView<T const> table(std::string const& name, Index rows, Index columns) {
    aviary::Tensor const tensor = take_matrix(name, rows, columns);
    return {read(tensor), tensor.shape[0], tensor.shape[1]};
  }
  /// The weights of a linear map, as they lie in the file where that is possible; sizes likewise.
  aviary::WeightMatrix matrix(std::string const& name, Index rows, Index columns) {
    aviary::Tensor const tensor = take_matrix(name, rows, columns);
    aviary::WeightMatrix found;
    with_element(tensor.dtype, [&]<class S>() {
      if constexpr (aviary::Stored<S>)
        if (auto const numbers = tensor.in_place<S>())
          found = aviary::MatView<S const>(numbers->data(), tensor.shape[0], tensor.shape[1]);
    });
    return found.rows() > 0 ? found : aviary::MatView<T const>(read(tensor), tensor.shape[0], tensor.shape[1]);
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
  aviary::Tensor take_matrix(std::string const& name, Index rows, Index columns) {
    aviary::Tensor const tensor = take(name).expect_shape({rows, columns});
    if (tensor.size() == 0)
      throw std::runtime_error(
          tensor.message("expected sizes above 0, found shape " + aviary::detail::shape_text(tensor.shape)));
    return tensor;
  }
  T const* read(aviary::Tensor const& tensor) { return numbers_.emplace_back(tensor.template read<T>()).data(); }

  File const& file_;
  std::deque<std::vector<T>> numbers_;
  std::set<std::string> used_;
};

struct LoadOptions {
  double group_norm_eps = 64e-5;                              ///< of ln_x (RWKV-5, 6, 7); no file stores it
  aviary::WeightFormat format = aviary::WeightFormat::exact;  ///< of all matrices
  Threads threads = Threads();
};

/// A model, and the tensors of its file that it has no use for.
struct Loaded {
  std::unique_ptr<Model> model;
  std::vector<std::string> unused;
};

}  // namespace models
