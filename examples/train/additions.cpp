#include "train/additions.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "aviary/dense/gradient.hpp"
#include "aviary/training/random.hpp"

namespace train {
namespace {

using aviary::MatView;
using aviary::VecView;

VecView<float> all_of(MatView<float> m) { return {m.data(), m.rows() * m.columns()}; }

}  // namespace

bool is_block_matrix(std::string_view name, std::span<std::int64_t const> shape) {
  return name.starts_with("blocks.") && name.ends_with(".weight") && shape.size() == 2;
}

Additions::Additions(Weights const& weights, Index rank, double alpha, std::uint64_t seed)
    : rank_(rank), factor_(static_cast<float>(alpha / static_cast<double>(rank))) {
  Index numbers = 0;
  auto const sizes_of = [](Weights::Entry const& e) {
    return std::pair{static_cast<Index>(e.shape[0]), static_cast<Index>(e.shape[1])};
  };
  for (Weights::Entry const& e : weights.entries()) {
    if (!e.learns()) continue;
    auto const [out, in] = sizes_of(e);
    numbers +=
        aviary::padded<float>(out * in) + 2 * aviary::padded<float>(rank * in) + 2 * aviary::padded<float>(out * rank);
  }
  numbers_.resize(aviary::to_size(numbers));
  float* next = numbers_.data();
  auto const take = [&](Index rows, Index columns) {
    MatView<float> const matrix(next, rows, columns);
    next += aviary::padded<float>(rows * columns);
    return matrix;
  };
  for (Weights::Entry const& e : weights.entries()) {
    if (!e.learns()) continue;
    auto const [out, in] = sizes_of(e);
    Addition const& made = additions_.emplace_back(
        Addition{&e, take(out, in), take(rank, in), take(out, rank), take(rank, in), take(out, rank)});
    std::ranges::copy(e.values, made.base.data());
    aviary::SplitMix64 random(seed, e.name + ".lora_A");
    for (float& x : all_of(made.a)) x = static_cast<float>(random.uniform(1 / std::sqrt(static_cast<double>(in))));
  }
}

std::vector<Learned> Additions::learned() const {
  std::vector<Learned> arrays;
  for (Addition const& m : additions_) {
    arrays.push_back({m.matrix->name + ".lora_A", {m.a.rows(), m.a.columns()}, all_of(m.a), all_of(m.da), true});
    arrays.push_back({m.matrix->name + ".lora_B", {m.b.rows(), m.b.columns()}, all_of(m.b), all_of(m.db), true});
  }
  return arrays;
}

void Additions::pull(models::Threads threads) {
  for (Addition const& m : additions_) {
    MatView<float const> const dw = m.matrix->as_rows(m.matrix->gradients);
    std::ranges::fill(all_of(m.da), 0.f);
    std::ranges::fill(all_of(m.db), 0.f);
    aviary::add_weight_gradient<float>(m.b, dw, m.da, threads);                               // B^T dW
    aviary::add_input_gradient<float>(m.a, aviary::WeightLayout::in_out, dw, m.db, threads);  // dW A^T
    for (float& x : all_of(m.da)) x *= factor_;
    for (float& x : all_of(m.db)) x *= factor_;
  }
}

void Additions::push(models::Threads threads) {
  std::vector<float> scaled;
  for (Addition const& m : additions_) {
    scaled.assign(m.b.data(), m.b.data() + m.b.rows() * rank_);
    for (float& x : scaled) x *= factor_;
    std::ranges::copy(all_of(m.base), m.matrix->values.begin());
    aviary::add_input_gradient<float>(m.a, aviary::WeightLayout::out_in,
                                      MatView<float const>(scaled.data(), m.b.rows(), rank_),
                                      m.matrix->as_rows(m.matrix->values), threads);  // W += B A
  }
}

}  // namespace train
