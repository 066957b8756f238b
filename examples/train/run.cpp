/// What train does once its command line is understood.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "aviary/training/schedule.hpp"
#include "models/initial_state.hpp"
#include "models/interruption.hpp"
#include "models/peak_memory.hpp"
#include "models/timing.hpp"
#include "train/additions.hpp"
#include "train/arguments.hpp"
#include "train/beginning.hpp"
#include "train/corpus.hpp"
#include "train/display.hpp"
#include "train/training_file.hpp"

namespace train {
namespace {

using Carried = std::unique_ptr<models::Carried<float>>;

/// Where the time goes beside the learner's parts.
struct Seconds {
  double all = 0, ranks = 0, optimizer = 0, evaluation = 0, saving = 0;
};
using Clock = std::chrono::steady_clock;
double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

class Run {
 public:
  Run(Request const& r, models::Ranks const& ranks) : Run(r, ranks, beginning_of(r)) {}

  /// Throws models::Interrupted after all is saved, and std::runtime_error for a loss that is not finite.
  void operator()() {
    models::Interruption const waits;
    std::optional<Metrics> metrics;
    in_first([&] {
      introduce();
      if (r_.metrics) metrics.emplace(*r_.metrics, step_);
    });
    began_ = Clock::now();
    Index const first = step_;
    long signal = 0;
    for (bool is_last = step_ >= r_.steps; !is_last && signal == 0;) {
      auto const begin = Clock::now();
      aviary::Loss const loss = learn_together();
      StepReport report{};
      bool const late = ranks_.together([&] { return report = update(loss, begin), is_late(); }) != 0;
      is_last = step_ == r_.steps || late;
      signal = in_first([&] {
        if (texts_.held_out.size() > 0 && (is_last || (r_.evaluate_every > 0 && step_ % r_.evaluate_every == 0)))
          report.held_out = evaluate();
        show(report, first, is_last);
        if (metrics) metrics->add(report);
        if (step_ % r_.save_every == 0) save();
      });
    }
    signal = std::max(signal, in_first([&] { save(); }));
    if (signal != 0) throw models::Interrupted{static_cast<int>(signal)};
    seconds_.all = since(began_);
    if (r_.stats && ranks_.is_first()) show_stats();
  }

 private:
  Run(Request const& r, models::Ranks const& ranks, Beginning beginning)
      : r_(r),
        ranks_(ranks),
        texts_(std::move(beginning.texts)),
        weights_(std::move(beginning.weights)),
        generation_(models::generation_of(weights_.file())),
        setup_(make_setup()) {
    if (r.learns == Learns::low_rank) additions_.emplace(weights_, r.rank, r.alpha, r.seed);
    optimizer_.emplace(
        additions_ ? additions_->learned() : models::learned(weights_),
        aviary::AdamW{.beta1 = r.beta1,
                      .beta2 = r.beta2,
                      .epsilon = generation_ == models::Generation::rwkv7 ? 1e-18 : 1e-8},  // as published
        r.weight_decay);
    learner_ = models::make_learner(weights_, {.tokens = r.batch * (r.context / r.stretches),
                                               .sequences = r.batch,
                                               .parts = r.parts,
                                               .threads = r.threads,
                                               .load = load_options(r)});
    if (r.carry) streams_.emplace(texts_.learned, r.batch), states_ = learner_->make_states(r.batch);
    if (!r.resume) return;
    Progress progress = this->progress();
    load(r.training_file(), setup_, progress);
    step_ = saved_ = progress.step;
    if (additions_) additions_->push(r.threads);
    learner_->refresh();
  }

  Setup make_setup() const {
    static constexpr std::array names{"all weights", "states", "additions of rank "};
    Setup setup{
        {"--batch", std::to_string(r_.batch * ranks_.size())},
        {"--context", std::to_string(r_.context)},
        {"--accumulate", std::to_string(r_.accumulate)},
        {"--stretches", std::to_string(r_.stretches)},
        {"--parts", std::to_string(r_.parts)},
        {"--seed", std::to_string(r_.seed)},
        {"--carry or not:", r_.carry ? "carry" : "not"},
        {"what learns:", names[static_cast<std::size_t>(r_.learns)] + (r_.rank > 0 ? std::to_string(r_.rank) : "")},
        {"the generation", std::string(name_of(generation_))},
        {"the text with fingerprint", fingerprint_of(texts_.learned.tokens())}};
    if (r_.learns != Learns::weights) setup["frozen weights with fingerprint"] = fingerprint_of_frozen(weights_);
    if (r_.rank > 0) setup["--alpha"] = formatted("%.17g", r_.alpha);
    return setup;
  }
  Progress progress() {
    return {.step = step_,
            .optimizer = &*optimizer_,
            .states = states_.get(),
            .places = streams_ ? streams_->places() : std::span<std::int64_t>{}};
  }

  void introduce() {
    display_.line(formatted("%s, %td weights, of which %td learn; %td tokens of text, %td bytes%s",
                            std::string(name_of(generation_)).c_str(), weights_.size(), count_learning(),
                            texts_.learned.size(), texts_.learned.bytes(),
                            step_ > 0 ? (", from step " + std::to_string(step_) + " on").c_str() : ""));
  }
  Index count_learning() const {
    Index count = 0;
    for (Learned const& l : optimizer_->arrays()) count += l.values.size();
    return count;
  }
  bool is_late() const { return r_.minutes && since(began_) >= 60 * *r_.minutes; }

  Sequences next_sequences(Index batch) {
    if (streams_) return streams_->next(r_.context, [&](Index stream) { states_->reset(stream); });
    Sequences const all =
        windows(texts_.learned, r_.seed, r_.accumulate * step_ + batch, r_.batch * ranks_.size(), r_.context);
    auto const own = all.begin() + r_.batch * ranks_.rank();
    return Sequences(own, own + r_.batch);
  }

  /// What sequences add to the gradients, stretch by stretch, the last first.
  aviary::Loss learn(Sequences const& sequences) {
    Index const length = r_.context / r_.stretches;
    if (r_.stretches == 1) return learner_->learn({.batch = packed_.of(sequences, 0, length), .states = states_.get()});
    Carried states = states_ ? states_->copy() : learner_->make_states(r_.batch);
    Carried const gradients = learner_->make_state_gradients(r_.batch);
    std::vector<Carried> before;
    for (Index i = 0; i < r_.stretches; ++i) {
      before.push_back(states->copy());
      if (i + 1 == r_.stretches) break;
      models::Batch const batch = packed_.of(sequences, i * length, length);
      if (!batch.tokens.empty()) learner_->evaluate({.batch = batch, .states = states.get()});
    }
    aviary::Loss loss;
    for (Index i = r_.stretches; i-- > 0;) {
      models::Batch const batch = packed_.of(sequences, i * length, length);
      if (batch.tokens.empty()) continue;
      add(loss, learner_->learn(
                    {.batch = batch, .states = before[aviary::to_size(i)].get(), .state_gradients = gradients.get()}));
    }
    if (states_) states_ = std::move(before.back());
    return loss;
  }
  static void add(aviary::Loss& loss, aviary::Loss const& more) { loss.sum += more.sum, loss.tokens += more.tokens; }

  /// Calls f() in the first rank alone. Returns the signal that some rank has got, or 0.
  template <class F> long in_first(F const& f) const {
    return ranks_.together([&] {
      if (ranks_.is_first()) f();
      return models::Interruption::signal();
    });
  }

  /// What the sequences of all ranks add to the gradients.
  aviary::Loss learn_together() {
    weights_.clear_gradients();
    aviary::Loss loss;
    ranks_.together([&] {
      for (Index batch = 0; batch < r_.accumulate; ++batch) add(loss, learn(next_sequences(batch)));
      return 0;
    });
    if (ranks_.size() == 1) return loss;
    auto const begin = Clock::now();
    std::array sums{loss.sum, static_cast<double>(loss.tokens)};
    ranks_.sum(std::span<double>(sums));
    auto const gradients = weights_.gradients_of("");
    ranks_.sum(std::span<float>(gradients.data(), aviary::to_size(gradients.size())));
    seconds_.ranks += since(begin);
    return {.sum = sums[0], .tokens = static_cast<Index>(sums[1])};
  }

  /// What follows from the same gradients is the same in every rank.
  StepReport update(aviary::Loss const& loss, Clock::time_point begin) {
    double const rate = schedule_(step_);
    aviary::Update update{};
    seconds_.optimizer += models::seconds([&] {
      if (additions_) additions_->pull(r_.threads);
      update = optimizer_->update({.step = step_ + 1,
                                   .learning_rate = rate,
                                   .loss = loss.sum,
                                   .gradient_scale = 1 / static_cast<double>(std::max(loss.tokens, Index{1})),
                                   .largest_norm = r_.clip},
                                  r_.threads);
      if (update && additions_) additions_->push(r_.threads);
    });
    if (!update) throw std::runtime_error(not_finite(update, loss.mean()));
    ++step_;
    learner_->refresh();
    tokens_ += loss.tokens;
    double const seconds = since(begin);
    return {.step = step_,
            .loss = loss.mean(),
            .bits_per_byte = texts_.learned.bits_per_byte(loss.mean()),
            .rate = rate,
            .norm = update.norm,
            .seconds = seconds,
            .tokens_per_second = static_cast<double>(loss.tokens) / std::max(seconds, 1e-9)};
  }
  std::string not_finite(aviary::Update const& update, double loss) const {
    bool const is_loss = update.outcome == aviary::Update::Outcome::loss_not_finite;
    return "step " + std::to_string(step_ + 1) + ": " +
           (is_loss ? formatted("the loss is %g", loss) : formatted("the norm of the gradients is %g", update.norm)) +
           ", not a finite number; " +
           (saved_ > 0 ? "the last good checkpoint is that of step " + std::to_string(saved_) + ", " +
                             r_.training_file().string()
                       : std::string("nothing was saved before"));
  }

  /// Bits per byte of the text that is held out: of each document in as many pieces as a batch has sequences.
  double evaluate() {
    auto const begin = Clock::now();
    auto const before = learner_->times();
    Index const length = r_.context / r_.stretches;
    bool const remembers = r_.carry || r_.stretches > 1;
    aviary::Loss loss;
    for (Index d = 0; d < texts_.held_out.documents(); ++d) {
      auto const document = texts_.held_out.document(d);
      Index const inputs = static_cast<Index>(document.size()) - 1;
      Sequences pieces;
      Index longest = 0;
      for (Index b = 0; b < r_.batch; ++b) {
        Index const from = inputs * b / r_.batch, to = inputs * (b + 1) / r_.batch;
        pieces.push_back(document.subspan(aviary::to_size(from), aviary::to_size(to - from + 1)));
        longest = std::max(longest, to - from);
      }
      Carried states;
      for (Index at = 0; at < longest; at += length) {
        if (remembers && (states == nullptr || (!r_.carry && at % r_.context == 0)))
          states = learner_->make_states(r_.batch);
        add(loss, learner_->evaluate({.batch = packed_.of(pieces, at, length), .states = states.get()}));
      }
    }
    auto const after = learner_->times();
    evaluated_.embedding += after.embedding - before.embedding;
    evaluated_.forward += after.forward - before.forward;
    evaluated_.head += after.head - before.head;
    seconds_.evaluation += since(begin);
    return texts_.held_out.bits_per_byte(loss.mean());
  }

  void show(StepReport const& report, Index first, bool is_last) {
    double const elapsed = since(began_);
    double left = elapsed / static_cast<double>(step_ - first) * static_cast<double>(r_.steps - step_);
    if (r_.minutes) left = std::min(left, std::max(60 * *r_.minutes - elapsed, 0.0));
    display_.step(report, left, is_last || report.held_out);
    if (report.held_out)
      display_.line(formatted("step %td: %.4f bits/byte of %td bytes held out", report.step, *report.held_out,
                              texts_.held_out.bytes()));
  }

  /// First what a run goes on from, then what it makes: of the two the first is right if they differ.
  void save() {
    seconds_.saving += models::seconds([&] {
      if (saved_ != step_) train::save(r_.training_file(), setup_, progress());
      saved_ = step_;
      write_model();
    });
  }
  void write_model() {
    std::vector<Written> tensors;
    std::map<std::string, std::string> texts;
    if (r_.learns == Learns::weights || r_.merge) {
      for (Weights::Entry const& e : weights_.entries()) tensors.push_back({e.name, e.shape, e.values});
    } else {
      for (Learned const& l : optimizer_->arrays()) tensors.push_back({l.name, l.shape, l.values});
      if (r_.rank > 0) texts = {{"rank", std::to_string(r_.rank)}, {"alpha", formatted("%g", r_.alpha)}};
    }
    write_tensors(r_.out, tensors, r_.format, texts);
  }

  /// Two operations a token for each number of a matrix, the embedding aside; two more for the gradients of what it multiplies,
  /// and two for those of itself where they are wanted. Recurrences, norms and the second forward pass are not counted.
  double operations_per_token() const {
    double operations = 0;
    for (Weights::Entry const& e : weights_.entries())
      if (e.is_matrix() && e.name != "emb.weight" && !models::is_initial_state(e.name))
        operations += (e.learns() ? 6. : 4.) * static_cast<double>(e.values.size());
    return operations;
  }
  /// Four bytes for each weight, each gradient, two moments of what learns, and each token of text; additions, and what the
  /// learner says that it keeps; states that are carried; with stretches the states before each, those at hand and their
  /// gradients; 8 MiB for the program.
  double bytes() const {
    constexpr double program = 8 << 20;
    double numbers =
        static_cast<double>(weights_.size() + weights_.learning() + texts_.learned.size() + texts_.held_out.size());
    if (r_.carry || r_.stretches > 1) {
      double state = 0;
      learner_->make_states(r_.batch)->for_each(
          [&](aviary::VecView<float> x) { state += static_cast<double>(x.size()); });
      numbers += state * static_cast<double>((r_.carry ? 1 : 0) + (r_.stretches > 1 ? r_.stretches + 2 : 0));
    }
    return program + 4 * numbers +
           static_cast<double>(optimizer_->bytes() + learner_->bytes() + (additions_ ? additions_->bytes() : 0));
  }

  void show_stats() {
    auto const t = learner_->times();
    double const learning = seconds_.all - seconds_.evaluation - seconds_.saving;
    std::array const parts{std::pair{"embedding", t.embedding - evaluated_.embedding},
                           std::pair{"forward", t.forward - evaluated_.forward},
                           std::pair{"head", t.head - evaluated_.head},
                           std::pair{"backward", t.backward},
                           std::pair{"sums", t.sums},
                           std::pair{"ranks", seconds_.ranks},
                           std::pair{"optimizer", seconds_.optimizer},
                           std::pair{"refresh", t.refresh}};
    std::string text = formatted("learned: %td tokens, %.4g s, %.4g tokens/s, %.4g GFLOP/s\n", tokens_, learning,
                                 static_cast<double>(tokens_) / learning,
                                 1e-9 * operations_per_token() * static_cast<double>(tokens_) / learning);
    text += "shares:";
    for (auto const& [name, seconds] : parts) text += formatted(" %s %.1f%%", name, 100 * seconds / learning);
    text += formatted("\nbesides: evaluation %.4g s, saving %.4g s\n", seconds_.evaluation, seconds_.saving);
    constexpr double mebi = 1 << 20;
    text +=
        formatted("memory: %.4g MiB by the formula, %.4g MiB at most", bytes() / mebi, models::peak_memory() / mebi);
    display_.line(text);
  }

  Request const& r_;
  models::Ranks const& ranks_;
  Texts texts_;
  Weights weights_;
  models::Generation generation_;
  Setup setup_;
  std::optional<Additions> additions_;
  std::optional<Optimizer> optimizer_;
  std::unique_ptr<models::Learner<float>> learner_;
  std::optional<Streams> streams_;
  Carried states_;  // of streams
  Packed packed_;
  aviary::Schedule schedule_{
      .peak = r_.rate, .steps = r_.steps, .floor = r_.final_rate, .warm_up = std::min(r_.warm_up, r_.steps)};
  Index step_ = 0, saved_ = 0, tokens_ = 0;
  Clock::time_point began_;
  Display display_{r_.steps};
  Seconds seconds_;
  models::LearningTimes evaluated_;
};

}  // namespace

void run(Request const& request, models::Ranks const& ranks) {
  std::optional<Run> run;
  ranks.together([&] {
    if (request.carry && ranks.size() > 1)
      throw UsageError("--carry: expected one process, found " + std::to_string(ranks.size()));
    if (ranks.is_first()) check_targets(request);
    return 0;
  });
  ranks.together([&] { return run.emplace(request, ranks), 0; });
  (*run)();
}

}  // namespace train
