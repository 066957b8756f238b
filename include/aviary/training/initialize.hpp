#pragma once
/// What weights are before they learn anything, for the tensors of every generation and of GoldFinch.
///
/// With i the layer, L the layers, C the channels, n = 0 ... the place in a tensor of N numbers, and
///
///   up = i / (L - 1)     down = 1 - i / L     c = n / C     p = n / (N - 1)     zig = (n + 1) % 3 - 1
///   z = (n % S - (S - 1)/2) / ((S - 1)/2), S the head size     zag = z |z|      mid = n / (C - 1) - 1/2
///
///   tensor                          4            5.0          5.1          5.2          6, GoldFinch
///   att.time_mix_k                  c^down       c^down       c^down       c^down       time_maa_* is 1 - time_mix_*:
///   att.time_mix_v                  c^down + 0.3 up everywhere                          x, w, k, v_cache as k; v, v2 as v;
///   att.time_mix_r, g               c^(down/2) everywhere                               r, g, q as r
///   ffn.time_mix_k, r               c^down       c^down       c^down       c^down       6: c^(down^3); GoldFinch: c^down
///   att.time_decay                  -5 + 8 p^e   -6 + 5 p^e everywhere else, e = 0.7 + 1.3 up
///   att.time_first                  log 0.3 + zig/2    -3
///   att.time_faaaa                                            up (1 - p)   up (1 - p) + zig/10
///   *_w1; *_w2                                                                          0; evenly in +-0.01
///   att.key, att.receptance         0; 0         1; 1         1; 1         0.1; 1       0.1; 1
///   att.gate                                                  1            0.1          0.1
///   other matrices                  1, but att.output, ffn.value and ffn.receptance 0 everywhere
///
///   7:  att.x_r, x_g  1 - c^(0.2 down)     x_k, x_v  1 - c^(0.7 down)     x_w, x_a  1 - c^(0.9 down)
///       ffn.x_k  1 - c^(down^4)            w0  -5.5 + 6 p^(1 + up^0.3) + 2.5 zag     a0  -0.19 + 0.3 zag + 0.4 mid
///       v0  0.73 - 0.4 mid     k_k  0.71 - 0.1 mid     k_a  1.02     r_k  -0.04
///       w1, a1, v1, g1  0      w2, a2, v2, g2  orthogonal, 0.1 max(1, sqrt(rows/columns))
///       matrices as 6
///
///   all:  emb evenly in +-1e-4     head  orthogonal, 0.5 max(1, sqrt(vocabulary/C))     time_state  0
///         norms  1, biases 0, but att.ln_x.weight ((i + 1) / L)^0.7
///
/// A number for a matrix is the gain of an orthogonal one: of rows at right angles, or of columns, if there are more rows; 4,
/// 5.0 and 5.1 multiply it by max(1, sqrt(rows/columns)). Where a denominator is 0, so is the quotient: one layer has up = 0.
///
/// Source: the constructors and generate_init_weight of the training code published in BlinkDL/RWKV-LM at 524481d
/// (RWKV-v4neo: 4, 5.0, 5.1; RWKV-v5: 5.2, 6; RWKV-v7/train_temp: 7) and recursal/GoldFinch-paper at 4fbc70c. Of two
/// statements for the same tensor the later one counts: generate_init_weight, which writes the file that training begins with.
/// The table of embeddings of RWKV-4 follows later generations: there the bound was the learning rate.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <string_view>

#include "aviary/core/error.hpp"
#include "aviary/core/view.hpp"
#include "aviary/training/orthogonal.hpp"
#include "aviary/training/random.hpp"

namespace AVIARY_NAMESPACE {

/// Whose initial weights: see above.
enum class Recipe : unsigned char { rwkv4, rwkv5_0, rwkv5_1, rwkv5_2, rwkv6, rwkv7, goldfinch };

/// What initial weights depend on beside a tensor's name and shape.
struct Initialization {
  Recipe recipe;
  Index layers;
  std::uint64_t seed = 0;
  Index head_size = 64;  ///< of RWKV-7
};

namespace detail {

/// The initial numbers of one tensor.
class InitialTensor {
 public:
  /// @throws std::invalid_argument if the layer in the name is none of the model's
  InitialTensor(Initialization const& model, std::string_view name, std::span<Index const> shape)
      : model_(model), name_(name), random_(model.seed, name) {
    for (Index const extent : shape) size_ *= extent;
    if (shape.size() >= 2) rows_ = shape[shape.size() - 2], columns_ = shape[shape.size() - 1];
    constexpr std::string_view blocks = "blocks.";
    if (!name.starts_with(blocks)) return;
    Index layer = 0;
    std::size_t at = blocks.size();
    for (; at < name.size() && '0' <= name[at] && name[at] <= '9' && layer < model.layers; ++at)
      layer = 10 * layer + (name[at] - '0');
    if (at == blocks.size() || at == name.size() || name[at] != '.' || layer >= model.layers)
      fail("is in none of " + std::to_string(model.layers) + " layers");
    layer_ = static_cast<double>(layer);
    part_ = name.substr(at + 1);
    inner_ = part_.substr(std::min(part_.find('.'), part_.size() - 1) + 1);
  }

  /// @throws std::invalid_argument for a name that no released model has
  template <class T> void fill(VecView<T> to) {
    if (to.size() != size_) fail("has " + std::to_string(size_) + " numbers, not " + std::to_string(to.size()));
    if (!(model_.recipe == Recipe::rwkv7 ? fill_of_7(to) : fill_of_4_to_6(to)) && !fill_of_all(to))
      fail("is no tensor with known initial weights");
  }

 private:
  [[noreturn]] void fail(std::string const& what) const { refuse("initialize: " + std::string(name_) + " " + what); }

  static double ratio(Index n, Index of) noexcept {
    return of != 0 ? static_cast<double>(n) / static_cast<double>(of) : 0;
  }
  double up() const noexcept { return model_.layers > 1 ? layer_ / static_cast<double>(model_.layers - 1) : 0; }
  double down() const noexcept { return 1 - layer_ / static_cast<double>(model_.layers); }

  /// A row of numbers, by their places.
  template <class T, class F> bool each(VecView<T> to, F const& f) {
    for (Index n = 0; n < to.size(); ++n) to[n] = static_cast<T>(f(n));
    return true;
  }
  template <class T> bool constant(VecView<T> to, double number) {
    return each(to, [number](Index) { return number; });
  }
  template <class T> bool even(VecView<T> to, double bound) {
    return each(to, [this, bound](Index) { return random_.uniform(bound); });
  }
  /// An orthogonal matrix.
  template <class T> bool orthogonal(VecView<T> to, double gain, bool more_for_rows) {
    if (gain == 0) return constant(to, 0);
    if (more_for_rows && rows_ > columns_) gain *= std::sqrt(ratio(rows_, columns_));
    if (rows_ * columns_ != size_) fail("is a matrix, but its shape is none");
    fill_orthogonal(MatView<T>(to.data(), rows_, columns_), gain, random_);
    return true;
  }
  /// How much of the present token a channel of N takes.
  template <class T> bool share(VecView<T> to, double exponent, double more, bool of_previous) {
    return each(to, [&](Index n) {
      double const mix = std::pow(ratio(n, size_), exponent) + more;
      return of_previous ? 1 - mix : mix;
    });
  }
  double zig(Index n) const noexcept { return static_cast<double>((n + 1) % 3 - 1); }
  double zag(Index n) const noexcept {
    double const half = static_cast<double>(model_.head_size - 1) / 2;
    double const z = half > 0 ? (static_cast<double>(n % model_.head_size) - half) / half : 0;
    return z * std::abs(z);
  }
  double middle(Index n) const noexcept { return ratio(n, size_ - 1) - 0.5; }

  /// Each gives false for a tensor that it does not know.
  template <class T> bool fill_of_all(VecView<T> to) {
    bool const older = model_.recipe <= Recipe::rwkv5_1;
    if (name_ == "emb.weight") return even(to, 1e-4);
    if (name_ == "head.weight") return orthogonal(to, 0.5, true);
    if (part_ == "att.ln_x.weight")
      return constant(to, std::pow((layer_ + 1) / static_cast<double>(model_.layers), 0.7));
    if (name_.starts_with("ln_out.") || part_.starts_with("ln") || part_.starts_with("att.ln_")) {
      if (name_.ends_with(".weight")) return constant(to, 1);
      if (name_.ends_with(".bias")) return constant(to, 0);
    }
    if (part_ == "att.time_state") return constant(to, 0);
    if (part_ == "att.output.weight" || part_ == "ffn.value.weight" || part_ == "ffn.receptance.weight")
      return constant(to, 0);
    bool const from_zero = model_.recipe == Recipe::rwkv4;
    if (part_ == "att.key.weight") return orthogonal(to, from_zero ? 0 : older ? 1 : 0.1, older);
    if (part_ == "att.receptance.weight") return orthogonal(to, from_zero ? 0 : 1, older);
    if (part_ == "att.gate.weight") return orthogonal(to, older ? 1 : 0.1, older);
    for (char const* const matrix : {"att.value.weight", "att.query.weight", "ffn.key.weight"})
      if (part_ == matrix) return orthogonal(to, 1, older);
    if (name_.starts_with("w_kv_cache_") && name_.ends_with(".weight")) return orthogonal(to, 1, older);
    return false;
  }

  template <class T> bool fill_of_4_to_6(VecView<T> to) {
    Recipe const recipe = model_.recipe;
    if (part_.starts_with("att.time_") && part_.ends_with("_w1")) return constant(to, 0);
    if (part_.starts_with("att.time_") && part_.ends_with("_w2")) return even(to, 0.01);
    bool const of_previous = inner_.starts_with("time_maa_");
    if (of_previous || inner_.starts_with("time_mix_")) {
      std::string_view const of = inner_.substr(9);
      if (part_.starts_with("ffn."))
        return share(to, recipe == Recipe::rwkv6 ? std::pow(down(), 3) : down(), 0, of_previous);
      if (of == "v" || of == "v2") return share(to, down(), 0.3 * up(), of_previous);
      if (of == "r" || of == "g" || of == "q") return share(to, 0.5 * down(), 0, of_previous);
      if (of == "x" || of == "w" || of == "k" || of == "v_cache") return share(to, down(), 0, of_previous);
      return false;
    }
    if (part_ == "att.time_decay") {
      bool const first = recipe == Recipe::rwkv4;
      return each(to, [&](Index n) {
        return (first ? -5 : -6) + (first ? 8 : 5) * std::pow(ratio(n, size_ - 1), 0.7 + 1.3 * up());
      });
    }
    if (part_ == "att.time_first") {
      if (recipe != Recipe::rwkv4) return constant(to, -3);
      return each(to, [&](Index n) { return std::log(0.3) + 0.5 * zig(n); });
    }
    if (part_ == "att.time_faaaa") {
      double const zigzag = recipe <= Recipe::rwkv5_1 ? 0 : 0.1;
      return each(to, [&](Index n) { return up() * (1 - ratio(n, size_ - 1)) + zigzag * zig(n); });
    }
    return false;
  }

  template <class T> bool fill_of_7(VecView<T> to) {
    if (part_ == "ffn.x_k") return share(to, std::pow(down(), 4), 0, true);
    if (!part_.starts_with("att.")) return false;
    std::string_view const of = inner_;
    if (of == "x_r" || of == "x_g") return share(to, 0.2 * down(), 0, true);
    if (of == "x_k" || of == "x_v") return share(to, 0.7 * down(), 0, true);
    if (of == "x_w" || of == "x_a") return share(to, 0.9 * down(), 0, true);
    if (of == "w0")
      return each(to, [&](Index n) {
        return -5.5 + 6 * std::pow(ratio(n, size_ - 1), 1 + std::pow(up(), 0.3)) + 2.5 * zag(n);
      });
    if (of == "a0") return each(to, [&](Index n) { return -0.19 + 0.3 * zag(n) + 0.4 * middle(n); });
    if (of == "v0") return each(to, [&](Index n) { return 0.73 - 0.4 * middle(n); });
    if (of == "k_k") return each(to, [&](Index n) { return 0.71 - 0.1 * middle(n); });
    if (of == "k_a") return constant(to, 1.02);
    if (of == "r_k") return constant(to, -0.04);
    if (of.size() == 2 && std::string_view("wavg").find(of[0]) != std::string_view::npos) {
      if (of[1] == '1') return constant(to, 0);
      if (of[1] == '2') return orthogonal(to, 0.1, true);
    }
    return false;
  }

  Initialization const& model_;
  std::string_view name_, part_, inner_;  // blocks.3.att.w0, att.w0, w0; of other names the last two are empty
  SplitMix64 random_;
  double layer_ = 0;
  Index size_ = 1, rows_ = 1, columns_ = 1;
};

}  // namespace detail

/// Fills a tensor with its initial weights. They follow from the arguments alone: tensors may be filled in any order, and on
/// every platform random numbers have the same bits; formulas have them up to the last bits of pow and log.
///   Cost: that of fill_orthogonal for matrices.
/// @param name   as in released files: blocks.0.att.key.weight
/// @param shape  as in released files, matrices (out, in)
/// @param to     as many numbers, row by row
/// @throws std::invalid_argument for a name that released models of the recipe do not have, a layer that the model does not
///         have, or a wrong size
template <class T>
void initialize(Initialization const& model, std::string_view name, std::span<Index const> shape, VecView<T> to) {
  detail::InitialTensor(model, name, shape).fill(to);
}

}  // namespace AVIARY_NAMESPACE
