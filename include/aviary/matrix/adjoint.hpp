#pragma once
/// A group of tokens on the way back: from gradients of what its tokens read and what reaches what they wrote, to those of the
/// model's own inputs. This is the chain rule of `prepare` (group.hpp) and of what the passes do beside the state (pass.hpp).
/// With the names of group.hpp, W what the tokens write (v - S p along k, or v along k and z = S p along q) and D the gradient
/// of the state after the group,
///
///     dW_s = D k_s + sum over m of (pair products) dy_m and dz_m           what a written row was worth
///     D    = D diag(w) + sum over m of (dy_m r_m^T + dz_m p_m^T)           the gradient of the state before it
///     dr_m = S dy_m,  dp_m = S dz_m,  dk_s = D W_s                         each times its decays, and the pairs' share
///
/// The gradient of log_w is the sum of all products that the decay is a factor of, each times its own gradient: of decayed rows,
/// of pairs that span the token, and of the state that goes through the group. Nothing is a difference of other gradients, so
/// that it keeps its digits where w is small, and is 0 where w is.
#include <algorithm>

#include "aviary/matrix/group.hpp"

namespace AVIARY_NAMESPACE::detail {

/// What sums over the values of a group give to its keys: rows of `stride` numbers, then the pairs' products, then the share of
/// values in the gradients of fields that are one number, N of each field.
template <class R, class T, int N> struct ValueSums {
  using Of = Group<form_of<R>, T, dynamic, N>;
  static constexpr int fields = field_count<R>;
  /// Rows: of the read rows of the group, of the written ones, and the sums over values of the state before the group times the
  /// gradient of the one after it.
  static constexpr int rows = Of::reads + Of::writes + (gate_of<R> != Gate::none);

  T* numbers;
  Index stride;

  AVIARY_HOST_DEVICE T* read(int n) const noexcept { return numbers + n * stride; }
  AVIARY_HOST_DEVICE T* written(int n) const noexcept { return read(Of::reads + n); }
  AVIARY_HOST_DEVICE T* columns() const noexcept { return read(rows - 1); }
  AVIARY_HOST_DEVICE T* pairs() const noexcept { return read(rows); }
  AVIARY_HOST_DEVICE T* fields_of_one() const noexcept { return pairs() + padded<T>(Of::pairs); }
  AVIARY_HOST_DEVICE static constexpr Index size(Index stride) noexcept {
    return rows * stride + padded<T>(Of::pairs) + padded<T>(N * fields);
  }
  /// Adds those of other values.
  AVIARY_HOST_DEVICE void add(ValueSums const& more) const noexcept {
    for (Index i = 0, n = size(stride); i < n; ++i) numbers[i] += more.numbers[i];
  }
};

/// N tokens of rule R in packs P. Rows along values lie as those of the group do: dread has the gradients of what the tokens
/// read, of y and then of the readings, and dwritten those of what they write.
template <class R, class P, class T, Index Row, int N> struct Adjoint {
  using L = simd::Pack<P>;
  using Of = Group<form_of<R>, T, Row, N>;
  using Sums = ValueSums<R, T, N>;
  static constexpr Form form = form_of<R>;
  static constexpr int fields = field_count<R>;
  static constexpr bool gated = form.gate != Gate::none, after = form.read == Read::after;
  static constexpr bool erases = Of::erases, rank_one = Of::rank_one;
  /// The bonus is of v, where the group has v - z.
  static constexpr bool needs_own_values = form.erase == Erase::along_key && !after;

  /// The readings of the tokens in the lanes from value i on, and what is written because of them. z: what the state before the
  /// group gives.
  static void read(Of x, T const* z, Index i) noexcept {
    T const* const products = x.pair_products();
    P written[to_size(Of::writes)];
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      P reading = L::load(z + m * x.row() + i);
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        reading = L::fma(written[s], P(products[Of::pair(N + m, s)]), reading);
        if constexpr (rank_one) reading = L::fma(written[N + s], P(products[Of::pair(N + m, N + s)]), reading);
      });
      written[m] = L::load(x.value(m) + i);
      if constexpr (rank_one) {
        written[N + m] = reading;
        L::store(x.value(N + m) + i, reading);
      } else {
        written[m] = written[m] - reading;
        L::store(x.value(m) + i, written[m]);
      }
    });
  }

  /// Completes gradients in the lanes from value i on: dread by those of the readings, and dwritten, which has what reaches written
  /// rows through the state after the group, to those of v and of the readings.
  AVIARY_HOST_DEVICE static void reach(Of x, T* dread, T* dwritten, Index i) noexcept {
    T const* const products = x.pair_products();
    P read[to_size(Of::reads)];
    unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { read[int(m)] = L::load(dread + m * x.row() + i); });
    unroll<N>([&](auto turn) AVIARY_INLINE_LAMBDA {
      constexpr int s = N - 1 - turn;
      auto const met = [&](auto row, auto write, P const& sum) AVIARY_INLINE_LAMBDA {
        constexpr int pair = Of::pair(row, write);
        return L::fma(read[int(row)], P(products[pair]), sum);
      };
      auto const reached = [&](auto write) AVIARY_INLINE_LAMBDA {
        P sum = L::load(dwritten + write * x.row() + i);
        if constexpr (after) sum = met(Constant<s>{}, write, sum);
        unroll<N - 1 - s>([&](auto later) AVIARY_INLINE_LAMBDA {
          constexpr int m = s + 1 + later;
          sum = met(Constant<m>{}, write, sum);
          if constexpr (erases) sum = met(Constant<N + m>{}, write, sum);
        });
        return sum;
      };
      P dv = reached(Constant<s>{});
      if constexpr (form.erase == Erase::along_key) read[N + s] = -dv;
      if constexpr (rank_one) read[N + s] = reached(Constant<N + s>{});
      if constexpr (erases) L::store(dread + (N + s) * x.row() + i, read[N + s]);
      if constexpr (!after) dv = met(Constant<s>{}, Constant<s>{}, dv);
      L::store(dwritten + s * x.row() + i, dv);
    });
  }

  /// The share of values [first, last) in the gradients of the pair products. v: the values themselves, where those of the group
  /// are others.
  static AVIARY_NO_INLINE void add_pairs(Of x, T const* dread, [[maybe_unused]] T const* v, Index first, Index last,
                                         Sums to, bool more) noexcept {
    P sum[to_size(Of::pairs)];
    unroll<Of::pairs>([&](auto n) AVIARY_INLINE_LAMBDA { sum[int(n)] = P(T(0)); });
    for (Index i = first; i < last; i += L::lanes) add_pairs_of(x, dread, v, i, sum);
    add_sums<Of::pairs>(sum, to.pairs(), more);
  }
  /// That of the lanes from value i on: sum[n] for each pair.
  AVIARY_HOST_DEVICE static AVIARY_INLINE void add_pairs_of(Of x, T const* dread, [[maybe_unused]] T const* v, Index i,
                                                            P* sum) noexcept {
    P written[to_size(Of::writes)];
    unroll<Of::writes>([&](auto n) AVIARY_INLINE_LAMBDA { written[int(n)] = L::load(x.value(n) + i); });
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      auto const add = [&](auto read, auto write, P const& a, P const& b) AVIARY_INLINE_LAMBDA {
        constexpr int n = Of::pair(read, write);
        sum[n] = L::fma(a, b, sum[n]);
      };
      P const of_y = L::load(dread + m * x.row() + i);
      if constexpr (needs_own_values)
        add(Constant<m>{}, Constant<m>{}, of_y, L::load(v + m * x.row() + i));
      else
        add(Constant<m>{}, Constant<m>{}, of_y, written[m]);
      if constexpr (after && rank_one) add(Constant<m>{}, Constant<N + m>{}, of_y, written[N + m]);
      [[maybe_unused]] P of_z = of_y;
      if constexpr (erases) of_z = L::load(dread + (N + m) * x.row() + i);
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        add(Constant<m>{}, Constant<s>{}, of_y, written[s]);
        if constexpr (erases) add(Constant<N + m>{}, Constant<s>{}, of_z, written[s]);
        if constexpr (rank_one) {
          add(Constant<m>{}, Constant<N + s>{}, of_y, written[N + s]);
          add(Constant<N + m>{}, Constant<N + s>{}, of_z, written[N + s]);
        }
      });
    });
  }

  /// Gradients of what lies along values, of [first, last), from those of v; and the share of values in those of numbers. to[f N
  /// + m]: the row of field f and token m.
  template <class Token>
  static AVIARY_INLINE void pull_values(Token const* x, T const* dv, Index row, Index first, Index last, T* const* to,
                                        Sums sums, bool more) noexcept {
    P numbers[to_size(N * fields)];
    unroll<N * fields>([&](auto n) AVIARY_INLINE_LAMBDA { numbers[int(n)] = P(T(0)); });
    T scalar_w[to_size(N)] = {};
    if constexpr (form.gate == Gate::scalar) scalar_decays<P, T, N>(x, scalar_w);
    for (Index i = first; i < last; i += L::lanes) pull_values_of(x, scalar_w, dv, row, i, to, numbers);
    add_sums<N * fields>(numbers, sums.fields_of_one(), more);
  }
  /// The same for the lanes from value i on; what they give to numbers is added to numbers[f N + m]. scalar_w: the decays of the
  /// tokens, if they are numbers.
  template <class Token, class Rows>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void pull_values_of(Token const* x, T const* scalar_w, T const* dv, Index row,
                                                              Index i, Rows const& to, P* numbers) noexcept {
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      TermGradients<R, P, false> d{};
      d.v = L::load(dv + m * row + i);
      put<Axis::value, m>(pull<false>(lanes_of<R, P, false>(x[m], i, scalar_w[m]), d), to, i, numbers);
    });
  }

  /// Gradients of what lies along keys, and of numbers.
  template <class Token, Index K>
  static AVIARY_INLINE void pull_keys(Token const* x, Extent<K> keys, Sums sums, T* const* to) noexcept {
    P numbers[to_size(N * fields)];
    unroll<N * fields>([&](auto n) AVIARY_INLINE_LAMBDA { numbers[int(n)] = P(T(0)); });
    T scalar_w[to_size(N)] = {};
    if constexpr (form.gate == Gate::scalar) scalar_decays<P, T, N>(x, scalar_w);
    for (Index j = 0; j < keys; j += L::lanes) pull_keys_of(x, scalar_w, sums, j, to, numbers);
    T* const of_values = sums.fields_of_one();
    add_sums<N * fields>(numbers, of_values, true);
    int f = 0;
    for_each_field<R>(Axes<R>{}, [&]<Axis A>(AxisTag<A>, auto) {
      if constexpr (one_number(A))
        for (int m = 0; m < N; ++m) *to[f * N + m] = of_values[f * N + m];
      ++f;
    });
  }

  /// The same for the lanes from key j on.
  template <class Token, class Rows>
  AVIARY_HOST_DEVICE static AVIARY_NO_INLINE void pull_keys_of(Token const* x, T const* scalar_w, Sums sums, Index j,
                                                               Rows const& to, P* numbers) noexcept {
    using TermsOf = Terms<R, P, true>;
    T const* const pairs = sums.pairs();
    auto const share = [&](auto read, auto write, P const& a, P const& sum) AVIARY_INLINE_LAMBDA {
      constexpr int n = Of::pair(read, write);
      return L::fma(P(pairs[n]), a, sum);
    };
    LaneFields<R, P, true> e[to_size(N)];
    P k[to_size(N)], r[to_size(N)], dk[to_size(N)], dr[to_size(N)];
    [[maybe_unused]] P w[to_size(N)], p[to_size(N)], q[to_size(N)], u[to_size(N)], dp[to_size(N)], dq[to_size(N)];

    // Forwards: gradients of what reads. written: k and q of the tokens before, decayed up to here; decayed, of_log_w: the same, and
    // the share of what reads in the gradients of log_w, token by token.
    P written[to_size(Of::writes)];
    [[maybe_unused]] P since(T(1)), decayed[to_size(N)][to_size(Of::writes)], reads[to_size(N)], probes[to_size(N)];
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      e[m] = lanes_of<R, P, true>(x[m], j, scalar_w[m]);
      TermsOf const t = R::template map<TermsOf>(e[m]);
      r[m] = t.r.value;
      k[m] = t.k.value;
      if constexpr (erases) p[m] = t.p.value;
      if constexpr (rank_one) q[m] = t.q.value;
      if constexpr (!after) u[m] = t.u.value;
      if constexpr (gated) w[m] = e[m].w;
      dr[m] = L::load(sums.read(m) + j);
      if constexpr (erases) dp[m] = L::load(sums.read(N + m) + j);
      if constexpr (gated && m > 0) {
        dr[m] = dr[m] * since;
        if constexpr (erases) dp[m] = dp[m] * since;
      }
      if constexpr (gated) {  // what they are of the state before the group
        reads[m] = r[m] * dr[m];
        if constexpr (after) reads[m] = reads[m] * w[m];
        if constexpr (erases) probes[m] = p[m] * dp[m];
      }
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        dr[m] = share(Constant<m>{}, Constant<s>{}, written[s], dr[m]);
        if constexpr (erases) dp[m] = share(Constant<N + m>{}, Constant<s>{}, written[s], dp[m]);
        if constexpr (rank_one) {
          dr[m] = share(Constant<m>{}, Constant<N + s>{}, written[N + s], dr[m]);
          dp[m] = share(Constant<N + m>{}, Constant<N + s>{}, written[N + s], dp[m]);
        }
        if constexpr (gated) {
          decayed[m][s] = written[s] = written[s] * w[m];
          if constexpr (rank_one) decayed[m][N + s] = written[N + s] = written[N + s] * w[m];
        }
      });
      if constexpr (after) {
        if constexpr (gated) dr[m] = dr[m] * w[m];
        dr[m] = share(Constant<m>{}, Constant<m>{}, k[m], dr[m]);
        if constexpr (rank_one) dr[m] = share(Constant<m>{}, Constant<N + m>{}, q[m], dr[m]);
      }
      written[m] = k[m];
      if constexpr (rank_one) written[N + m] = q[m];
      if constexpr (gated) since = m > 0 ? since * w[m] : w[m];
    });

    // Backwards: gradients of what is written, and of decays.
    unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA {
      dk[int(m)] = L::load(sums.written(m) + j);
      if constexpr (rank_one) dq[int(m)] = L::load(sums.written(N + m) + j);
    });
    [[maybe_unused]] P of_state(
        T(0));  // what goes through the decay of the token as a part of the state before the group
    if constexpr (gated) of_state = L::load(sums.columns() + j) * since;
    unroll<N>([&](auto turn) AVIARY_INLINE_LAMBDA {
      constexpr int m = N - 1 - turn;
      TermGradients<R, P, true> d{};
      if constexpr (after) {
        if constexpr (gated) of_state = of_state + reads[m];
        dk[m] = share(Constant<m>{}, Constant<m>{}, r[m], dk[m]);
        if constexpr (rank_one) dq[m] = share(Constant<m>{}, Constant<N + m>{}, r[m], dq[m]);
      }
      [[maybe_unused]] P of_decay = of_state;
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        auto const back = [&](auto write, P& gradient) AVIARY_INLINE_LAMBDA {
          if constexpr (after) gradient = share(Constant<m>{}, write, r[m], gradient);
          if constexpr (gated) {
            of_decay = L::fma(decayed[m][int(write)], gradient, of_decay);
            gradient = gradient * w[m];
          }
          if constexpr (!after) gradient = share(Constant<m>{}, write, r[m], gradient);
          if constexpr (erases) gradient = share(Constant<N + m>{}, write, p[m], gradient);
        };
        back(Constant<s>{}, dk[s]);
        if constexpr (rank_one) back(Constant<N + s>{}, dq[s]);
      });
      if constexpr (gated) {
        if constexpr (erases) of_state = of_state + probes[m];
        if constexpr (!after) of_state = of_state + reads[m];
        d.log_w = of_decay;
      }
      d.r = dr[m];
      d.k = dk[m];
      if constexpr (erases) d.p = dp[m];
      if constexpr (rank_one) d.q = dq[m];
      if constexpr (!after) {
        P const own(pairs[Of::pair(m, m)]);
        d.r = L::fma(own * u[m], k[m], d.r);
        d.k = L::fma(own * u[m], r[m], d.k);
        d.u = own * r[m] * k[m];
      }
      put<Axis::key, m>(pull<true>(e[m], d), to, j, numbers);
    });
  }

 private:
  /// to[i] = the sum of the lanes of x[i], or that and what was there.
  template <int n> static AVIARY_INLINE void add_sums(P const* x, T* to, bool more) noexcept {
    T total[to_size(padded<T>(n))];
    simd::sums<n>(x, total);
    for (int i = 0; i < n; ++i) to[i] = more ? to[i] + total[i] : total[i];
  }
  template <bool along_keys>
  AVIARY_HOST_DEVICE static AVIARY_INLINE FieldGradients<R, P, along_keys> pull(
      LaneFields<R, P, along_keys> const& x, TermGradients<R, P, along_keys> const& d) noexcept {
    return R::template pull<FieldGradients<R, P, along_keys>>(x, d);
  }
  /// Stores the lanes of token m from number i on, and adds up those of fields that are one number.
  template <Axis along, int m, class Gradients, class Rows>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void put(Gradients const& lanes, Rows const& to, Index i,
                                                   P* numbers) noexcept {
    int f = 0;
    for_each_field<R>(lanes, [&]<Axis A>(AxisTag<A>, auto const& lane) AVIARY_INLINE_LAMBDA {
      if constexpr (one_number(A))
        numbers[f * N + m] = numbers[f * N + m] + lane.value;
      else if constexpr (along == Axis::key ? along_key(A) : A == along)
        L::store(to[f * N + m] + i, lane.value);
      ++f;
    });
  }
};

}  // namespace AVIARY_NAMESPACE::detail
