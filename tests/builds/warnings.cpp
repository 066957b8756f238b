/// A user's file, optimised and with the warnings that users switch on: none may come from the library. It has what uses the
/// most instructions of its own: exponentials, numbers in 16 and 8 bits, sums of lanes.
#include <aviary/aviary.hpp>
#include <aviary/layers/time_mix4.hpp>
#include <aviary/layers/time_mix7.hpp>
#include <vector>

using aviary::bf16, aviary::f16, aviary::Index, aviary::MatView, aviary::VecView;

void read(aviary::Wkv4<float>::ForwardCall const& four, aviary::Wkv7<float, 64, 64, bf16>::ForwardCall const& seven,
          aviary::Kda<double, 64>::SummarizeCall const& kda);
void read(aviary::Wkv4<float>::ForwardCall const& four, aviary::Wkv7<float, 64, 64, bf16>::ForwardCall const& seven,
          aviary::Kda<double, 64>::SummarizeCall const& kda) {
  aviary::Wkv4<float>::forward(four);
  aviary::Wkv7<float, 64, 64, bf16>::forward(seven);
  aviary::Kda<double, 64>::summarize(kda);
}

void mix(aviary::TimeMix<aviary::Wkv7<float, 64>> const& layer, aviary::TimeMix<aviary::Wkv7<float, 64>>::State& state,
         MatView<float> x, aviary::Scratch<float>& scratch);
void mix(aviary::TimeMix<aviary::Wkv7<float, 64>> const& layer, aviary::TimeMix<aviary::Wkv7<float, 64>>::State& state,
         MatView<float> x, aviary::Scratch<float>& scratch) {
  layer(MatView<float const>(x), state, x, scratch, x);
}

aviary::Linear<float> linear(MatView<f16 const> weight);
aviary::Linear<float> linear(MatView<f16 const> weight) {
  return aviary::Linear<float>(weight, aviary::NumberFormat::q8);
}

void attend(aviary::KeyValueCache<float> const& cache, MatView<float> x, aviary::Scratch<float>& scratch);
void attend(aviary::KeyValueCache<float> const& cache, MatView<float> x, aviary::Scratch<float>& scratch) {
  cache.attend(x, 0, x, scratch);
}

void decays(std::vector<float>& log_w);
void decays(std::vector<float>& log_w) {
  aviary::simd::transform<float>(
      static_cast<Index>(log_w.size()), log_w.data(), [](auto const& x) { return aviary::log_w_of_gla(x); },
      log_w.data());
}
