#pragma once
/// A GOLD layer and the token cache in front of it: seeded, or of a golden file.
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "aviary/layers/gold.hpp"
#include "aviary/layers/gold_backward.hpp"
#include "aviary/reference/gold.hpp"
#include "support/golden.hpp"
#include "support/layer_case.hpp"

namespace aviary::test {

/// The committed golden files of GOLD layers, and those of the folder that the build may name.
inline std::vector<std::filesystem::path> gold_files(std::string const& committed, std::string const& data) {
  std::vector<std::filesystem::path> files = golden_files(committed);
  if (!data.empty())
    for (auto& path : golden_files(data + "/golden")) files.push_back(path);
  std::erase_if(files, [](auto const& path) { return GoldenFile(path).op() != "gold_attention"; });
  return files;
}

/// Sizes of a seeded case.
struct GoldShape {
  Index channels = 64, heads = 4, width = 4, mix_rank = 6, rank = 9, vocab = 20;
};

/// Weights by their names in released files, without time_ and .weight, and the inputs of one sequence of `tokens` tokens.
/// All numbers are floats. The layers and weights that it makes refer to it.
template <class T> struct GoldCase {
  Index channels, heads, tokens;
  std::optional<double> rotary_base;
  std::map<std::string, Matrix<T>> tensors;
  std::vector<std::int32_t> ids;
  Matrix<T> table, hidden, x;  // (vocab, C), (tokens, C), (tokens, C)
  AlignedVector<T> before;     // (C): x of the token before
  bool normalized = false;     // whether the table is, so that there is no ln0

  GoldCase(std::uint64_t seed, Index n, GoldShape const& shape = {}, std::optional<double> rotary = {})
      : channels(shape.channels),
        heads(shape.heads),
        tokens(n),
        rotary_base(rotary),
        table(0, 0),
        hidden(0, 0),
        x(0, 0) {
    Random random(seed);
    Index const c = channels, d = shape.mix_rank, l = shape.rank;
    auto const draw = [&](char const* name, Index rows, Index columns, double scale) {
      tensors.emplace(name, Matrix<T>(rows, columns, random, scale));
    };
    double const full = 1 / std::sqrt(static_cast<double>(c));
    for (char const* name : {"maa_x", "maa_q", "maa_v_cache", "maa_k", "maa_v"}) draw(name, 1, c, 0.5);
    for (char const* name : {"ln0", "ln_q", "ln_k", "ln_v", "ln_x"})
      for (char const* part : {"", ".bias"}) draw((std::string(name) + part).c_str(), 1, c, 0.7);
    draw("maa_q_w1", c, d, full);
    draw("maa_q_w2", d, c, 0.2);
    draw("maa_kv_w1", c, 2 * d, full);
    draw("maa_kv_w2", 2 * d, c, 0.2);
    for (std::string const part : {"key", "value"}) {
      draw((part + "_w1").c_str(), c, l, full);
      draw((part + "_w2").c_str(), l, c, 0.2);
    }
    draw("query", c, c, full);
    draw("output", c, c, full);
    draw("w_a", shape.width, c, full);
    draw("w_b", c, c + shape.width, full);
    table = Matrix<T>(shape.vocab, c, random);
    hidden = Matrix<T>(n, c, random);
    x = Matrix<T>(n, c, random);
    before = AlignedVector<T>(to_size(c));
    for (Index t = 0; t < n; ++t) ids.push_back(static_cast<std::int32_t>(random.below(shape.vocab)));
  }

  /// Sequence b of a golden file, whose embeddings are normalised, and have their positions as ids.
  GoldCase(GoldenFile const& file, Index b)
      : channels(file.size("x", 2)),
        heads(file.config("n_head")),
        tokens(file.size("x", 1)),
        ids(to_size(tokens)),
        table(rows(file, "xo", b)),
        hidden(rows(file, "hidden", b)),
        x(rows(file, "x", b)),
        normalized(true) {
    std::iota(ids.begin(), ids.end(), 0);
    for (char const* name :
         {"maa_x",     "maa_q",     "maa_v_cache", "maa_k",     "maa_v",     "maa_q_w1",  "maa_q_w2",
          "maa_kv_w1", "maa_kv_w2", "key_w1",      "key_w2",    "value_w1",  "value_w2",  "ln_q",
          "ln_k",      "ln_v",      "ln_x",        "ln_q.bias", "ln_k.bias", "ln_v.bias", "ln_x.bias",
          "query",     "output",    "w_a",         "w_b"})
      take(file, name);
    auto const shift = file.tensors().tensor("shift0").template read<T>();
    before.assign(shift.begin() + b * channels, shift.begin() + (b + 1) * channels);
  }

  /// What golden files call a tensor.
  static std::string name_in_files(std::string const& name) {
    if (name.starts_with("w_")) return "w_kv_cache" + name.substr(1) + ".weight";
    if (name.ends_with(".bias")) return "att." + name;
    bool const is_weight = name.starts_with("ln_") || name == "query" || name == "output";
    return is_weight ? "att." + name + ".weight" : "att.time_" + name;
  }

  static Index sequences(GoldenFile const& file) { return file.size("x", 0); }
  /// Sequence b of a tensor: (tokens, columns), or (1, columns) of one without tokens.
  static Matrix<T> rows(GoldenFile const& file, std::string const& name, Index b) {
    auto const all = file.tensors().tensor(name).template read<T>();
    Index const axes = static_cast<Index>(file.tensors().tensor(name).shape.size());
    Matrix<T> part(axes == 3 ? file.size(name, 1) : 1, file.size(name, to_size(axes - 1)));
    std::copy_n(all.begin() + b * part.rows * part.columns, part.rows * part.columns, part.numbers.begin());
    return part;
  }

  MatView<T const> view(std::string const& name) const { return tensors.at(name).view(); }
  VecView<T const> row(std::string const& name) const { return tensors.at(name).view()[0]; }

  TokenCat<T> token_cat(WeightFormat format = WeightFormat::full) const {
    std::optional<LayerNorm<T>> ln0;
    if (!normalized) ln0.emplace(row("ln0"), row("ln0.bias"));
    return {
        Embedding<T>(table.view(), format), ln0, {.compress = view("w_a"), .expand = view("w_b"), .format = format}};
  }

  typename Gold<T>::Weights weights() const {
    Index const d = view("maa_kv_w2").rows() / 2;
    return {.query_shift = {.base = row("maa_x"),
                            .w1 = view("maa_q_w1"),
                            .w2 = {view("maa_q_w2")},
                            .mix = {row("maa_q")},
                            .format = WeightFormat::full},
            .shift = {.base = row("maa_v_cache"),
                      .w1 = view("maa_kv_w1"),
                      .w2 = {view("maa_kv_w2").rows(0, d), view("maa_kv_w2").rows(d, d)},
                      .mix = {row("maa_k"), row("maa_v")},
                      .format = WeightFormat::full},
            .key_w1 = view("key_w1"),
            .key_w2 = view("key_w2"),
            .value_w1 = view("value_w1"),
            .value_w2 = view("value_w2"),
            .query = view("query"),
            .output = view("output"),
            .ln_q_weight = row("ln_q"),
            .ln_q_bias = row("ln_q.bias"),
            .ln_k_weight = row("ln_k"),
            .ln_k_bias = row("ln_k.bias"),
            .ln_v_weight = row("ln_v"),
            .ln_v_bias = row("ln_v.bias"),
            .ln_x_weight = row("ln_x"),
            .ln_x_bias = row("ln_x.bias"),
            .heads = heads,
            .rotary_base = rotary_base,
            .format = WeightFormat::full};
  }

  typename reference::Gold<T>::Weights reference_weights() const {
    Index const d = view("maa_kv_w2").rows() / 2;
    return {.maa_x = row("maa_x"),
            .maa_q = row("maa_q"),
            .maa_v_cache = row("maa_v_cache"),
            .maa_k = row("maa_k"),
            .maa_v = row("maa_v"),
            .maa_q_w1 = view("maa_q_w1"),
            .maa_q_w2 = view("maa_q_w2"),
            .maa_kv_w1 = view("maa_kv_w1"),
            .maa_kv_w2_k = view("maa_kv_w2").rows(0, d),
            .maa_kv_w2_v = view("maa_kv_w2").rows(d, d),
            .key_w1 = view("key_w1"),
            .key_w2 = view("key_w2"),
            .value_w1 = view("value_w1"),
            .value_w2 = view("value_w2"),
            .w_b = view("w_b"),
            .query = view("query"),
            .output = view("output"),
            .ln_q_weight = row("ln_q"),
            .ln_q_bias = row("ln_q.bias"),
            .ln_k_weight = row("ln_k"),
            .ln_k_bias = row("ln_k.bias"),
            .ln_v_weight = row("ln_v"),
            .ln_v_bias = row("ln_v.bias"),
            .ln_x_weight = row("ln_x"),
            .ln_x_bias = row("ln_x.bias"),
            .heads = heads,
            .rotary_base = rotary_base ? std::optional<T>(static_cast<T>(*rotary_base)) : std::nullopt};
  }

 private:
  void take(GoldenFile const& file, std::string const& name) {
    std::string const tensor = name_in_files(name);
    auto const shape = file.tensors().tensor(tensor).shape;
    Index const columns = static_cast<Index>(shape.back());
    auto numbers = file.tensors().tensor(tensor).template read<T>();
    Matrix<T> matrix(static_cast<Index>(numbers.size()) / columns, columns);
    matrix.numbers = std::move(numbers);
    tensors.insert_or_assign(name, std::move(matrix));
  }
};

/// A layer with its cache of keys stored as S, and a sequence that is run through it in any pieces.
template <class T, class S = T> struct GoldRun {
  GoldCase<T> const& given;
  TokenCat<T> token_cat = given.token_cat();
  Gold<T> layer{given.weights()};
  TokenCache<S> cache = token_cat.template empty_cache<S>();
  typename Gold<T>::State state = layer.empty_state();
  Scratch<T> scratch, workspace{layer.workspace_size(token_cat)};
  std::optional<KeyValueCache<T>> rebuilt;

  GoldRun(GoldCase<T> const& c, Index tokens_at_once, bool keep_rebuilt = false)
      : given(c), scratch(tokens_at_once * std::max(layer.scratch_size(), token_cat.scratch_size())) {
    state.x = given.before;
    if (keep_rebuilt) rebuilt.emplace(layer.empty_rebuilt());
  }

  /// Takes tokens first, first + 1 ... of the case, which follow those of the cache; y (count, C).
  template <class E = Serial> void run(Index first, Index count, MatView<T> y, E&& executor = {}) {
    token_cat.append(std::span(given.ids).subspan(to_size(first), to_size(count)), given.hidden.rows_of(first, count),
                     cache, scratch, executor);
    layer(given.x.rows_of(first, count), state, y, scratch, context(count), executor);
  }
  /// Takes all tokens, in pieces.
  template <class E = Serial> Matrix<T> run(std::vector<Index> const& split, E&& executor = {}) {
    Matrix<T> y(given.tokens, given.channels);
    Index first = 0;
    for (Index const count : split) {
      run(first, count, y.view().rows(first, count), executor);
      first += count;
    }
    return y;
  }
  GoldContext<T, S> context(Index queries) {
    return {token_cat, cache, queries, workspace, rebuilt ? &*rebuilt : nullptr};
  }
};

/// The gradients of a case: of weights by the names of its tensors, of x of the last m tokens, and of what is in the cache.
template <class T> struct GoldGradients {
  GoldCase<T> const& given;
  std::map<std::string, Matrix<T>> tensors;
  Matrix<T> x, e, c;              // (m, C), (tokens, C), (tokens, R)
  typename Gold<T>::State state;  // before the m tokens

  GoldGradients(GoldCase<T> const& of, Index m)
      : given(of),
        x(m, of.channels),
        e(of.tokens, of.channels),
        c(of.tokens, of.view("w_a").rows()),
        state{AlignedVector<T>(to_size(of.channels))} {
    for (auto const& [name, tensor] : of.tensors) tensors.emplace(name, Matrix<T>(tensor.rows, tensor.columns));
  }

  MatView<T> view(std::string const& name) { return tensors.at(name).view(); }
  VecView<T> row(std::string const& name) { return view(name)[0]; }

  typename GoldBackward<T>::Gradients weights() {
    Index const d = view("maa_kv_w2").rows() / 2;
    return {
        .query_shift = {.base = row("maa_x"), .w1 = view("maa_q_w1"), .w2 = {view("maa_q_w2")}, .mix = {row("maa_q")}},
        .shift = {.base = row("maa_v_cache"),
                  .w1 = view("maa_kv_w1"),
                  .w2 = {view("maa_kv_w2").rows(0, d), view("maa_kv_w2").rows(d, d)},
                  .mix = {row("maa_k"), row("maa_v")}},
        .key_w1 = view("key_w1"),
        .key_w2 = view("key_w2"),
        .value_w1 = view("value_w1"),
        .value_w2 = view("value_w2"),
        .query = view("query"),
        .output = view("output"),
        .ln_q_weight = row("ln_q"),
        .ln_q_bias = row("ln_q.bias"),
        .ln_k_weight = row("ln_k"),
        .ln_k_bias = row("ln_k.bias"),
        .ln_v_weight = row("ln_v"),
        .ln_v_bias = row("ln_v.bias"),
        .ln_x_weight = row("ln_x"),
        .ln_x_bias = row("ln_x.bias"),
        .heads = {}};
  }

  /// Adds those of a call of the layer with the last m tokens of the run's cache, from dy (m, C).
  /// @param first  the row of x where the call's rows begin     @param at_once  how many queries are a stretch
  template <class S, class E = Serial>
  void add(GoldRun<T, S> const& run, MatView<T const> dy, Index first, Index at_once, E&& executor = {}) {
    using Backward = GoldBackward<T>;
    Index const m = dy.rows(), n = run.cache.size();
    Scratch<T> scratch(at_once * Backward::scratch_size(run.layer));
    Scratch<T> workspace(Backward::workspace_size(run.layer, run.token_cat));
    typename Gold<T>::State before{given.before};
    if (m < n) before.x.assign(given.x.view()[n - m - 1].begin(), given.x.view()[n - m - 1].end());
    auto const w = given.weights();
    Backward::run(run.layer,
                  {.weights = w,
                   .expand = given.view("w_b"),
                   .x = given.x.rows_of(n - m, m),
                   .state = before,
                   .dy = dy,
                   .dx = x.view().rows(first, m),
                   .dstate = state,
                   .de = e.view().rows(0, n),
                   .dc = c.view().rows(0, n),
                   .dweights = weights(),
                   .dexpand = view("w_b")},
                  scratch, GoldContext(run.token_cat, run.cache, m, workspace), executor);
  }
};

/// What the reference makes of the last m tokens of a sequence, from the numbers of a cache.
template <class T, class S>
std::vector<double> reference_gold(GoldCase<double> const& given, GoldRun<T, S> const& run, Index m) {
  Index const n = run.cache.size(), c = given.channels;
  TokenCat<double> const token_cat = given.token_cat();
  Matrix<double> e(n, c), keys(n, run.cache.width()), y(m, c);
  token_cat.embed(run.cache.ids(), e.view());
  run.cache.read(0, keys.view());
  VecView<double const> before(given.before);
  if (m < n) before = given.x.view()[n - m - 1];
  reference::Gold<double>::forward(given.reference_weights(),
                                   {.e = e.view(), .c = keys.view(), .x = given.x.rows_of(n - m, m), .before = before},
                                   y.view());
  return y.numbers;
}

}  // namespace aviary::test
