#pragma once
/// TokenCat (Goldstein et al. 2024, arXiv:2407.12077) makes the entries of GoldFinch's token cache, and makes full-size
/// rows of them again. All attention layers share one.
///
///   e  = LayerNorm_ln0(embedding of the token's id)
///   c  = W_a x                                              compressed: what is kept beside the id
///   kd = rms(W_b concat(e, c))      eh = rms(e)             rms(x) = x / (sqrt(|x|^2 / C) + 1e-8)
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "aviary/cache/token_cache.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/layers/embedding.hpp"
#include "aviary/layers/norm.hpp"

namespace AVIARY_NAMESPACE {

/// A TokenCat for C channels, with keys of R numbers in the cache, C/16 in released models.
template <class T> class TokenCat {
 public:
  /// The constructor copies them. Linear weights are (out, in).
  struct Weights {
    WeightMatrix compress;  ///< (R, C): w_kv_cache_a
    WeightMatrix expand;    ///< (C, C + R), the embedding first: w_kv_cache_b
    WeightFormat format = WeightFormat::exact;
  };

  /// @param ln0  none if the rows of the table are normalised already
  /// @throws std::invalid_argument if shapes do not fit together
  TokenCat(Embedding<T> embedding, std::optional<LayerNorm<T>> ln0, Weights const& w)
      : embedding_(std::move(embedding)),
        ln0_(std::move(ln0)),
        compress_(checked(w, embedding_.channels()).compress, w.format),
        expand_(w.expand, w.format) {
    if (ln0_ && ln0_->channels() != channels())
      detail::refuse("TokenCat: ln0 has " + std::to_string(ln0_->channels()) + " channels, expected " +
                     std::to_string(channels()));
  }

  Index channels() const noexcept { return expand_.out(); }
  Index vocab_size() const noexcept { return embedding_.vocab_size(); }
  /// The numbers of a key in the cache, R.
  Index width() const noexcept { return compress_.out(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept { return padded<T>(expand_.in()); }
  /// Makes an empty cache of the right width and vocabulary.
  template <KeyStorage S> TokenCache<S> empty_cache() const { return TokenCache<S>(width(), vocab_size()); }

  /// Computes e (tokens, C) for ids 0 ... vocab_size() - 1. The first layer of the model takes it, too.
  template <TokenIds Ids> void embed(Ids const& ids, MatView<T> e) const noexcept {
    embedding_(ids, e);
    if (ln0_) (*ln0_)(e, e);
  }

  /// Appends tokens to the cache, in stretches as the scratch allows. x (tokens, C) is what the last recurrent layer
  /// leaves in the residual stream.
  /// @throws std::invalid_argument as TokenCache::append and for a scratch of less than a token, std::bad_alloc. The cache
  /// then keeps the tokens of the stretches before
  template <KeyStorage S, Executor E = Serial>
  void append(std::span<std::int32_t const> ids, MatView<T const> x, TokenCache<S>& cache, Scratch<T>& scratch,
              E&& executor = {}) const {
    AVIARY_ASSERT(static_cast<Index>(ids.size()) == x.rows() && x.columns() == channels());
    scratch.for_stretches(x.rows(), padded<T>(width()), [&](Index first, Index count) {
      MatView<T> const c = scratch.rows(count, width());
      compress_(x.rows(first, count), c, executor);
      cache.append(ids.subspan(to_size(first), to_size(count)), c);
    });
  }

  /// Computes kd and eh (tokens, C) of the tokens of the cache from token `first` on. The cache has this width, and no
  /// larger vocabulary. A token has the same bits alone and among others.
  ///   Cost: (C + R) C multiply-adds a token.
  template <KeyStorage S, Executor E = Serial>
  void operator()(TokenCache<S> const& cache, Index first, MatView<T> kd, MatView<T> eh, Scratch<T>& scratch,
                  E&& executor = {}) const {
    Index const c = channels(), tokens = kd.rows();
    AVIARY_ASSERT(cache.width() == width() && cache.vocab_size() <= vocab_size() && eh.rows() == tokens);
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const both = scratch.rows(tokens, c + width());
    read(cache, first, both);
    expand_(both, kd, executor);
    detail::transform_rows(
        eh, [](auto const& number) { return number; }, detail::columns_of(both, 0, c));
    for (Index t = 0; t < tokens; ++t) {
      normalize_rms(VecView<T>(kd[t]));
      normalize_rms(VecView<T>(eh[t]));
    }
  }

  /// The numbers of scratch that a token needs for gradients.
  Index backward_scratch_size() const noexcept { return 2 * padded<T>(expand_.in()) + padded<T>(channels()); }

  /// Adds what reaches embeddings, keys of the cache and the weight `expand` from dkd and deh (tokens, C), which are used up,
  /// of the tokens from `first` on. It computes their expansion again.
  ///   Cost: (C + R) C multiply-adds a token, three times.
  /// @param expand  what the constructor was given
  /// @param de, dc  (tokens, C), (tokens, R): of e and of the keys as the cache gives them, whatever it stores
  /// @param dexpand  (C, C + R)
  template <KeyStorage S, Executor E = Serial>
  void backward(WeightMatrix const& expand, TokenCache<S> const& cache, Index first, MatView<T> dkd, MatView<T> deh,
                MatSink<T> de, MatSink<T> dc, MatSink<T> dexpand, Scratch<T>& scratch, E&& executor = {}) const {
    Index const c = channels(), tokens = dkd.rows();
    AVIARY_ASSERT(deh.rows() == tokens && dkd.columns() == c && deh.columns() == c);
    AVIARY_ASSERT(!de.wanted() || (de.rows() == tokens && de.columns() == c));
    AVIARY_ASSERT(!dc.wanted() || (dc.rows() == tokens && dc.columns() == width()));
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const both = scratch.rows(tokens, c + width()), expanded = scratch.rows(tokens, c);
    read(cache, first, both);
    expand_(both, expanded, executor);
    for (Index t = 0; t < tokens; ++t) {
      normalize_rms_gradient<T>(expanded[t], dkd[t], dkd[t]);
      normalize_rms_gradient<T>(both[t].segment(0, c), deh[t], deh[t]);
    }
    add_weight_gradient<T>(dkd, both, dexpand, executor);
    if (!de.wanted() && !dc.wanted()) return;
    MatView<T> const dboth = scratch.rows(tokens, c + width());
    detail::fill_rows(dboth, T(0));
    add_input_gradient<T>(expand, WeightLayout::out_in, dkd, dboth, executor);
    if (de.wanted()) {
      detail::add_rows<T>(deh, detail::columns_of(dboth, 0, c));
      detail::add_rows<T>(de, deh);
    }
    if (dc.wanted()) detail::add_rows<T>(dc, detail::columns_of(dboth, c, c + width()));
  }

  /// Adds what reaches x (tokens, C) of append() and the weight `compress` (R, C) from dc (tokens, R).
  /// @param compress  what the constructor was given
  template <Executor E = Serial>
  void append_backward(WeightMatrix const& compress, MatView<T const> x, MatView<T const> dc, MatSink<T> dx,
                       MatSink<T> dcompress, E&& executor = {}) const {
    if (dx.wanted()) add_input_gradient<T>(compress, WeightLayout::out_in, dc, dx, executor);
    add_weight_gradient<T>(dc, x, dcompress, executor);
  }

 private:
  /// Reads concat(e, c) of the tokens from `first` on.
  template <KeyStorage S> void read(TokenCache<S> const& cache, Index first, MatView<T> both) const noexcept {
    embed(cache.ids(first, both.rows()), detail::columns_of(both, 0, channels()));
    cache.read(first, detail::columns_of(both, channels(), both.columns()));
  }

  static Weights const& checked(Weights const& w, Index channels) {
    detail::ExpectShapes const expect{"TokenCat"};
    Index const width = std::max(w.compress.rows(), Index{1});
    expect("compress", w.compress, width, channels);
    expect("expand", w.expand, channels, channels + width);
    return w;
  }

  Embedding<T> embedding_;
  std::optional<LayerNorm<T>> ln0_;
  Linear<T> compress_, expand_;
};

}  // namespace AVIARY_NAMESPACE
