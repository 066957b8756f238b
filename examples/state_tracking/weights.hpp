#pragma once
/// Matrices of trained numbers, with their gradients and the moments of the optimizer.
#include <algorithm>
#include <aviary/core/aligned.hpp>
#include <aviary/training/adamw.hpp>
#include <vector>

namespace state_tracking {

using aviary::AlignedVector;
using aviary::Index;
using aviary::MatView;
using aviary::to_size;
using aviary::VecView;

template <class T> class Weights {
 public:
  /// Where a matrix lies.
  struct Place {
    Index first = 0, rows = 0, columns = 0;
  };

  /// A further matrix, of zeros. Views that were taken before are no longer good.
  Place add(Index rows, Index columns, aviary::ParameterGroup group = {}) {
    places_.push_back({static_cast<Index>(values_.size()), rows, columns});
    groups_.push_back(group);
    for (auto* const numbers : {&values_, &gradients_, &first_, &second_})
      numbers->resize(numbers->size() + to_size(rows * columns));
    return places_.back();
  }

  MatView<T> values(Place p) noexcept { return {values_.data() + p.first, p.rows, p.columns}; }
  MatView<T> gradients(Place p) noexcept { return {gradients_.data() + p.first, p.rows, p.columns}; }
  /// Those of all matrices.
  VecView<T> values() noexcept { return values_; }
  VecView<T> gradients() noexcept { return gradients_; }

  aviary::Update update(aviary::UpdateCall const& call) {
    std::vector<aviary::Parameter<T>> parameters;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      auto const part = [p = places_[i]](AlignedVector<T>& numbers) -> VecView<T> {
        return {numbers.data() + p.first, p.rows * p.columns};
      };
      parameters.push_back({part(values_), part(gradients_), part(first_), part(second_), groups_[i]});
    }
    return aviary::adamw_update<T>({}, parameters, call);
  }

 private:
  std::vector<Place> places_;
  std::vector<aviary::ParameterGroup> groups_;
  AlignedVector<T> values_, gradients_, first_, second_;
};

}  // namespace state_tracking
