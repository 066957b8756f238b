#pragma once
/// What learns, and what the optimizer keeps of it.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/training/adamw.hpp"
#include "models/threads.hpp"
#include "models/weight_store.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// An array that learns.
struct Learned {
  std::string name;
  std::vector<std::int64_t> shape;
  aviary::VecView<float> values, gradients;
  bool is_matrix;  ///< see parameter_group()
};

/// The weights of a store that learn.
std::vector<Learned> learned(WeightStore<float> const& weights);

/// Arrays that learn, with the moments of their gradients.
class Optimizer {
 public:
  /// @param weight_decay  of what decays: see parameter_group()
  Optimizer(std::vector<Learned> arrays, aviary::AdamW const& constants, double weight_decay);

  std::span<Learned const> arrays() const noexcept { return arrays_; }
  /// As adamw_update(). Bits do not depend on the threads.
  aviary::Update update(aviary::UpdateCall const& call, Threads threads) const;

  /// Calls f(name, shape, numbers) for all values and moments: what it takes to go on. Moments are called first/NAME and
  /// second/NAME.
  void for_each(
      std::function<void(std::string const&, std::span<std::int64_t const>, aviary::VecView<float>)> const& f) const;
  /// Of the moments.
  std::size_t bytes() const noexcept { return moments_.size() * sizeof(float); }

 private:
  std::vector<Learned> arrays_;
  aviary::AdamW constants_;
  aviary::AlignedVector<float> moments_;
  std::vector<aviary::Parameter<float>> parameters_;
};

}  // namespace AVIARY_ISA
}  // namespace models
