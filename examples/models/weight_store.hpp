#pragma once
/// The weights of a model that learns: plain arrays by the names of released files, and beside them the gradients of those
/// that learn.
#include <algorithm>
#include <array>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/layers/parameters.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::Index;

/// Whoever has views of the weights keeps them: neither values nor gradients ever move.
template <class T> class WeightStore {
 public:
  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
    aviary::VecView<T> values;     ///< row by row
    aviary::VecView<T> gradients;  ///< as many, or none if it does not learn

    bool learns() const noexcept { return gradients.size() > 0; }
    /// Rows of the last size.
    aviary::MatView<T> as_rows(aviary::VecView<T> numbers) const noexcept {
      Index const columns = shape.empty() ? 1 : shape.back();
      return {numbers.data(), columns > 0 ? numbers.size() / columns : 0, columns};
    }
    /// As parameter_group() wants it.
    bool is_matrix() const {
      return std::ranges::count_if(shape, [](std::int64_t n) { return n > 1; }) > 1;
    }
  };

  /// What a store is made of: a name, a shape, and whether it learns.
  struct Wanted {
    std::string name;
    std::vector<std::int64_t> shape;
    bool learns = true;
  };

  /// Weights of value 0. Throws std::invalid_argument for a name that is given twice.
  explicit WeightStore(std::vector<Wanted> wanted) {
    std::ranges::sort(wanted, {}, &Wanted::name);
    Index values = 0, gradients = 0;
    auto const size_of = [](Wanted const& w) {
      Index size = 1;
      for (std::int64_t const n : w.shape) size *= n;
      return size;
    };
    for (Wanted const& w : wanted) {
      values += aviary::padded<T>(size_of(w));
      if (w.learns) gradients += aviary::padded<T>(size_of(w));
    }
    values_.resize(aviary::to_size(values));
    gradients_.resize(aviary::to_size(gradients));
    T *value = values_.data(), *gradient = gradients_.data();
    for (Wanted& w : wanted) {
      Index const size = size_of(w);
      if (!entries_.empty() && entries_.back().name == w.name) throw std::invalid_argument(w.name + " is given twice");
      entries_.push_back({std::move(w.name), std::move(w.shape), {value, size}, {gradient, w.learns ? size : 0}});
      value += aviary::padded<T>(size);
      if (w.learns) gradient += aviary::padded<T>(size);
    }
  }
  WeightStore(WeightStore&&) noexcept = default;

  std::span<Entry const> entries() const noexcept { return entries_; }
  /// Throws std::invalid_argument if there is no such weight.
  Entry const& operator[](std::string_view name) const {
    if (Entry const* const found = find(name)) return *found;
    throw std::invalid_argument("the model has no weight " + std::string(name));
  }
  bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

  /// The numbers of all weights, and of those that learn.
  Index size() const noexcept {
    return count([](Entry const& e) { return e.values.size(); });
  }
  Index learning() const noexcept {
    return count([](Entry const& e) { return e.gradients.size(); });
  }

  void clear_gradients() noexcept { std::ranges::fill(gradients_, T(0)); }
  /// The gradients of all weights whose names begin so lie side by side: from where, and how many numbers, gaps included.
  aviary::VecView<T> gradients_of(std::string_view prefix) const noexcept {
    T *begin = nullptr, *end = nullptr;
    for (Entry const& e : entries_)
      if (e.learns() && e.name.starts_with(prefix)) {
        if (begin == nullptr) begin = e.gradients.data();
        end = e.gradients.data() + aviary::padded<T>(e.gradients.size());
      }
    return {begin, end - begin};
  }

  /// The values as a file, for loaders and writers: a view.
  aviary::TensorFile file(std::string const& name = "the model") const {
    std::vector<aviary::Tensor> tensors;
    for (Entry const& e : entries_)
      tensors.push_back(
          {.name = e.name,
           .dtype = aviary::format_of<T>,
           .shape = e.shape,
           .bytes = std::as_bytes(std::span<T const>(e.values.data(), aviary::to_size(e.values.size())))});
    return aviary::TensorFile(tensors, name);
  }

 private:
  Entry const* find(std::string_view name) const noexcept {
    auto const found = std::ranges::lower_bound(entries_, name, {}, &Entry::name);
    return found != entries_.end() && found->name == name ? &*found : nullptr;
  }
  template <class F> Index count(F const& f) const noexcept {
    Index sum = 0;
    for (Entry const& e : entries_) sum += f(e);
    return sum;
  }

  aviary::AlignedVector<T> values_, gradients_;
  std::vector<Entry> entries_;  // by name
};

/// Gives the gradients of weights to layers, as WeightReader gives their values: under the same names. They are not those of
/// the store, but lie in a copy of the memory that it has for some of them: each of several tasks adds to one of its own.
template <class Number> class GradientReader {
 public:
  using T = Number;
  using As = aviary::WeightGradients<T>;

  /// @param of  gradients_of(), of all names that will be read     @param copy  as many numbers
  GradientReader(WeightStore<T> const& store, aviary::VecView<T> of, T* copy) : store_(store), of_(of), copy_(copy) {}

  aviary::VecSink<T> vector(std::string const& name, Index) const {
    auto const& entry = store_[name];
    if (!entry.learns()) return {};
    return aviary::VecView<T>(numbers(entry), entry.gradients.size());
  }
  aviary::MatSink<T> matrix(std::string const& name, Index, Index) const {
    auto const& entry = store_[name];
    if (!entry.learns()) return {};
    return entry.as_rows({numbers(entry), entry.gradients.size()});
  }
  aviary::MatSink<T> table(std::string const& name, std::initializer_list<std::int64_t>) const {
    return matrix(name, 0, 0);
  }
  template <Index N>
  std::array<aviary::MatSink<T>, aviary::to_size(N)> matrices(std::string const& name, Index, Index) const {
    std::array<aviary::MatSink<T>, aviary::to_size(N)> parts;
    aviary::MatSink<T> const all = matrix(name, 0, 0);
    if (all.wanted())
      for (Index i = 0; i < N; ++i) parts[aviary::to_size(i)] = all.rows(i * (all.rows() / N), all.rows() / N);
    return parts;
  }
  /// No weight that learns is stored as a logarithm.
  aviary::MatSink<T> exponentials(std::string const& name, std::initializer_list<std::int64_t>) const {
    throw std::logic_error(name + " is kept as its logarithm");
  }
  void skip(std::string const&) const noexcept {}

 private:
  T* numbers(typename WeightStore<T>::Entry const& entry) const noexcept {
    return copy_ + (entry.gradients.data() - of_.data());
  }

  WeightStore<T> const& store_;
  aviary::VecView<T> of_;
  T* copy_;
};

}  // namespace AVIARY_ISA
}  // namespace models
