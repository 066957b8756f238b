#include "models/optimizer.hpp"

#include <utility>

namespace models {
inline namespace AVIARY_ISA {

std::vector<Learned> learned(WeightStore<float> const& weights) {
  std::vector<Learned> arrays;
  for (auto const& e : weights.entries())
    if (e.learns()) arrays.push_back({e.name, e.shape, e.values, e.gradients, e.is_matrix()});
  return arrays;
}

Optimizer::Optimizer(std::vector<Learned> arrays, aviary::AdamW const& constants, double weight_decay)
    : arrays_(std::move(arrays)), constants_(constants) {
  Index numbers = 0;
  for (Learned const& l : arrays_) numbers += aviary::padded<float>(l.values.size());
  moments_.resize(aviary::to_size(2 * numbers));
  float *first = moments_.data(), *second = first + numbers;
  for (Learned const& l : arrays_) {
    Index const size = l.values.size();
    parameters_.push_back({.values = l.values,
                           .gradients = l.gradients,
                           .first = {first, size},
                           .second = {second, size},
                           .group = aviary::parameter_group(l.name, l.is_matrix, weight_decay)});
    first += aviary::padded<float>(size), second += aviary::padded<float>(size);
  }
}

aviary::Update Optimizer::update(aviary::UpdateCall const& call, Threads threads) const {
  return aviary::adamw_update<float>(constants_, parameters_, call, threads);
}

void Optimizer::for_each(
    std::function<void(std::string const&, std::span<std::int64_t const>, aviary::VecView<float>)> const& f) const {
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    Learned const& l = arrays_[i];
    f(l.name, l.shape, l.values);
    f("first/" + l.name, l.shape, parameters_[i].first);
    f("second/" + l.name, l.shape, parameters_[i].second);
  }
}

}  // namespace AVIARY_ISA
}  // namespace models
