/// Kernels for a GPU, timed by its events: bench_cuda [--short | --once] [--json FILE] [--beside FILE]
///
/// Beside each figure stand two floors that the same run measured: the bytes that a call is given and gives, each once, over the
/// speed of a copy; the multiply-adds of its form over their peak, which in chunks is that of tensor cores. --beside reads lines
/// "NAME MILLISECONDS" of other programs, such as cuda_triton.py. --short takes short sequences, and --once runs each call on them
/// only once: for sanitizers. Ends with 77 where there is no GPU, and with 1 where a call fails or a result is no number.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/cuda/channel.hpp"
#include "aviary/cuda/matrix.hpp"
#include "aviary/wkv4.hpp"
#include "support/memories.hpp"

namespace aviary::bench {
namespace {

/// What a call of the runtime says, as an exception.
void must(cudaError_t error, char const* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // what can be forgotten is
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

/// Memory of the device that lives as long as this.
class Room {
 public:
  Room() = default;
  Room(Room const&) = delete;
  ~Room() {
    for (void* p : all_) cudaFree(p);
  }
  template <class T> T* make(Index n) {
    void* p = nullptr;
    must(cudaMalloc(&p, std::max<std::size_t>(to_size(n) * sizeof(T), 1)), "memory of the device");
    all_.push_back(p);
    return static_cast<T*>(p);
  }
  template <class T> T* make_zeros(Index n) {
    T* const p = make<T>(n);
    must(cudaMemset(p, 0, to_size(n) * sizeof(T)), "cudaMemset");
    return p;
  }

 private:
  std::vector<void*> all_;
};

constexpr int threads = 64;
int blocks_for(Index rows) { return static_cast<int>(std::clamp<Index>(rows, 1, 65535)); }

/// Number i of a stream of mean 0 and variance 1, all of them between -sqrt(3) and sqrt(3).
__device__ float drawn(std::uint64_t stream, Index i) {
  std::uint64_t x = (stream << 40) + static_cast<std::uint64_t>(i) + 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return (static_cast<float>((x ^ x >> 31) >> 40) * 0x1p-23f - 1.f) * 1.7320508f;
}

/// Rows of numbers of the kind that layers make: see Inputs of support/inputs.hpp.
template <class T> __global__ void fill(T* to, Index rows, Index size, Draw draw, std::uint64_t stream) {
  for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
    float squares = 1e-6f;
    if (draw == Draw::unit)
      for (Index j = 0; j < size; ++j)
        squares = fmaf(drawn(stream, row * size + j), drawn(stream, row * size + j), squares);
    for (Index j = threadIdx.x; j < size; j += blockDim.x) {
      float x = drawn(stream, row * size + j);
      if (draw == Draw::decay || draw == Draw::head_decay) x = log_w_of_sigmoid(2 * x);
      if (draw == Draw::rate) x = sigmoid(1.5f * x);
      if (draw == Draw::unit) x *= rsqrtf(squares);
      to[row * size + j] = narrow<T>(x);
    }
  }
}

template <class T> __global__ void count_no_numbers(T const* x, Index n, unsigned long long* count) {
  for (Index i = Index{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += Index{gridDim.x} * blockDim.x)
    if (!isfinite(static_cast<float>(widen(x[i])))) atomicAdd(count, 1ull);
}

/// Chains of fused multiply-adds in registers.
constexpr int chains = 8, peak_threads = 256;
__global__ void multiply_add(float* to, float a, float b, int rounds) {
  float x[chains];
  for (int c = 0; c < chains; ++c) x[c] = static_cast<float>(threadIdx.x + c);
#pragma unroll 16
  for (int i = 0; i < rounds; ++i)
#pragma unroll
    for (int c = 0; c < chains; ++c) x[c] = fmaf(x[c], a, b);
  float sum = 0;
  for (int c = 0; c < chains; ++c) sum += x[c];
  if (sum < 0) *to = sum;  // never, which the compiler does not know
}

/// Chains of products of matrices by the instruction that chunks go by. Needs compute capability 8.0.
constexpr int multiply_adds_of_product = 16 * 8 * 8;
__global__ void multiply_matrices(float* to, float a, float b, int rounds) {
  cuda::DeviceBlock<peak_threads> block(nullptr);
  float x[chains][4];
  for (int c = 0; c < chains; ++c)
    for (float& e : x[c]) e = static_cast<float>(threadIdx.x);
#pragma unroll 4
  for (int i = 0; i < rounds; ++i)
#pragma unroll
    for (int c = 0; c < chains; ++c)
      block.multiply<peak_threads>([&](int, auto) { return a; }, [&](int, auto) { return b; },
                                   [&](int, auto e) -> float& { return x[c][int(e)]; });
  float sum = 0;
  for (int c = 0; c < chains; ++c)
    for (float e : x[c]) sum += e;
  if (sum < 0) *to = sum;  // never
}

/// Median milliseconds of what f puts on the stream.
class Clock {
 public:
  /// Of one run, or of several after others that do not count.
  explicit Clock(bool once) : warm_(once ? 0 : 2), rounds_(once ? 1 : 9) {
    must(cudaStreamCreate(&stream), "cudaStreamCreate");
    must(cudaEventCreate(&begin_), "cudaEventCreate");
    must(cudaEventCreate(&end_), "cudaEventCreate");
  }
  Clock(Clock const&) = delete;
  ~Clock() { cudaEventDestroy(end_), cudaEventDestroy(begin_), cudaStreamDestroy(stream); }

  template <class F> double median(F&& f) const {
    std::vector<float> all;
    for (std::size_t i = 0; i < warm_ + rounds_; ++i) {
      must(cudaEventRecord(begin_, stream), "cudaEventRecord");
      f();
      must(cudaEventRecord(end_, stream), "cudaEventRecord");
      must(cudaEventSynchronize(end_), "a kernel");
      float ms = 0;
      must(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
      if (i >= warm_) all.push_back(ms);
    }
    auto const middle = all.begin() + static_cast<std::ptrdiff_t>(rounds_ / 2);
    std::nth_element(all.begin(), middle, all.end());
    return static_cast<double>(*middle);
  }

  cudaStream_t stream = nullptr;

 private:
  std::size_t warm_, rounds_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// What the device can do, measured.
struct Machine {
  cudaDeviceProp device;
  int driver = 0, runtime = 0;
  double bytes_a_ms, multiply_adds_a_ms;
  double tensor_multiply_adds_a_ms = 0;  ///< of TF32; none before compute capability 8.0

  Machine(Clock const& clock, bool brief) {
    must(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    must(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    must(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    Room room;
    std::size_t const bytes = std::size_t{1} << (brief ? 26 : 30);
    auto *const from = room.make_zeros<char>(static_cast<Index>(bytes)), *const to =
                                                                             room.make<char>(static_cast<Index>(bytes));
    bytes_a_ms = 2 * static_cast<double>(bytes) / clock.median([&] {
      must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, clock.stream), "cudaMemcpyAsync");
    });
    int const rounds = 1 << 14, products = 1 << 12, blocks = 16 * device.multiProcessorCount;
    multiply_adds_a_ms = 1. * rounds * chains * peak_threads * blocks / clock.median([&] {
      multiply_add<<<static_cast<unsigned>(blocks), peak_threads, 0, clock.stream>>>(reinterpret_cast<float*>(to), 0.5f,
                                                                                     1.f, rounds);
      must(cudaGetLastError(), "a launch");
    });
    if (!cuda::tensor_cores("bench_cuda")) return;
    double const of_round = chains * multiply_adds_of_product * (peak_threads / cuda::warp);
    tensor_multiply_adds_a_ms = products * of_round * blocks / clock.median([&] {
      multiply_matrices<<<static_cast<unsigned>(blocks), peak_threads, 0, clock.stream>>>(reinterpret_cast<float*>(to),
                                                                                          0.5f, 0.5f, products);
      must(cudaGetLastError(), "a launch");
    });
  }
};

struct Row {
  std::string name;
  double ms = 0, tokens = 0, bytes = 0, multiply_adds = 0;
  bool on_tensor_cores = false;
  std::string problem = {};
};

// --- calls ----------------------------------------------------------------------------------------------------------

/// What is drawn for the fields of a memory, and the multiply-adds of a state element and token on the way there and back.
template <class M> inline constexpr auto kinds = draws<typename M::Rule>;
template <class M>
inline constexpr double work = M::Rule::erase == Erase::none        ? 3
                               : M::Rule::erase == Erase::along_key ? 4
                                                                    : 5;
template <class M>
inline constexpr double work_back = M::Rule::erase == Erase::none        ? 5.5
                                    : M::Rule::erase == Erase::along_key ? 9.5
                                                                         : 10.5;
/// The multiply-adds of a state element and token, and whether tensor cores do them.
struct Work {
  double multiply_adds;
  bool on_tensor_cores = false;
};
/// In chunks: products of rows with the state, beside which its decays and pairs of tokens are little.
template <class M>
inline constexpr Work work_in_chunks{M::Rule::erase == Erase::none        ? 2.
                                     : M::Rule::erase == Erase::along_key ? 3.
                                                                          : 4.,
                                     true};
/// And back: what is written, found again; what reaches it; the gradient of the state; sums over values.
template <class M>
inline constexpr Work work_back_in_chunks{M::Rule::erase == Erase::none        ? 4.
                                          : M::Rule::erase == Erase::along_key ? 7.
                                                                               : 9.,
                                          true};
template <class M> inline constexpr Index elements = M::keys* M::values;
template <class M> inline constexpr Index interval = std::min<Index>(16, cuda::longest_interval<M>);

// log_w, k, v, u; a channel has no matrix
template <class T, Index C>
inline constexpr std::array kinds<ChannelMemory<T, C>>{Draw::head_decay, Draw::normal, Draw::normal, Draw::bonus};
template <class T, Index C> inline constexpr double work<ChannelMemory<T, C>> = 0;
template <class T, Index C> inline constexpr double work_back<ChannelMemory<T, C>> = 0;
template <class T, Index C> inline constexpr Index elements<ChannelMemory<T, C>> = 0;
template <class T, Index C> inline constexpr Index interval<ChannelMemory<T, C>> = 16;

/// Sequences of one length on a device, through memory M. Inputs, outputs and gradients are stored as In.
template <class M, Stored In> class Sequences {
  using T = typename M::T;
  using State = typename M::State;
  static constexpr bool is_matrix = elements<M> > 0;
  static constexpr Index values = M::values;

 public:
  Sequences(Clock const& clock, Index sequences, Index heads, Index length)
      : clock_(clock), sequences_(sequences), heads_(heads), length_(length), tokens_(sequences * length) {
    for (Index s = 0; s <= sequences; ++s) positions_.push_back(s * length);
    auto* const positions = room_.make<Index>(sequences + 1);
    must(cudaMemcpy(positions, positions_.data(), positions_.size() * sizeof(Index), cudaMemcpyHostToDevice),
         "cudaMemcpy");
    if (sequences > 1) offsets_ = {positions, positions_.size()};
    if (sequences == 1) positions_.clear();
    y_ = room_.make<In>(tokens_ * heads_ * values);
    states_ = room_.make_zeros<State>(sequences_ * heads_);
    count_ = room_.make<unsigned long long>(1);
  }

  std::string name(char const* verb) const {
    char text[160];
    std::snprintf(text, sizeof(text), "%s/%s/%s/%c%td/B%td/H%td/T%td", name_of_memory(), verb,
                  sizeof(In) == 2 ? "bf16" : "f32", is_matrix ? 'K' : 'C', values, sequences_, heads_, length_);
    return text;
  }

  void forward(std::vector<Row>& rows) {
    auto const call = forward_call();
    double const bytes = input_bytes_ + output_bytes() + 2 * state_bytes();
    auto const time = [&](char const* verb, auto&& f, Work by = {work<M>}) {
      measure(
          rows, verb, bytes, by, [&] { good(f()); }, [&] { check(y_, tokens_ * heads_ * values); });
    };
    time("forward", [&] { return cuda::forward<M>(call, clock_.stream); });
    if constexpr (is_matrix) {
      using Wide = cuda::WideForward<M>;
      auto const arguments = cuda::forward_arguments<Wide, M>(call, heads_);
      time("forward_wide", [&] { return cuda::launch<Wide>("forward", arguments, clock_.stream); });
      if constexpr (sizeof(In) == 2)
        if (cuda::tensor_cores("bench_cuda"))
          time(
              "forward_in_chunks", [&] { return cuda::forward_in_chunks<M, In>(call, clock_.stream); },
              work_in_chunks<M>);
      if (sequences_ == 1) pieces(call, time);
    }
  }

  void backward(std::vector<Row>& rows) {
    auto const room = [&](auto const& x, Index every) {
      if constexpr (is_matrix)
        return cuda::backward_workspace<M>(x, heads_, sequences_, every);
      else
        return cuda::backward_workspace<M>(x, sequences_, every);
    };
    backward_by(rows, "backward", interval<M>, {work_back<M>}, room,
                [&](auto const& call) { return cuda::backward<M>(call, clock_.stream); });
    if constexpr (is_matrix && sizeof(In) == 2)
      if (cuda::tensor_cores("bench_cuda"))
        backward_by(
            rows, "backward_in_chunks", 16, work_back_in_chunks<M>,
            [&](auto const& x, Index every) {
              return cuda::backward_workspace_in_chunks<M>(x, heads_, sequences_, every);
            },
            [&](auto const& call) { return cuda::backward_in_chunks<M, In>(call, clock_.stream); });
  }

 private:
  /// From a tape with a state every so many tokens, with a workspace of room(inputs, every) numbers.
  template <class RoomFor, class Verb>
  void backward_by(std::vector<Row>& rows, char const* name, Index every, Work by, RoomFor&& room, Verb&& verb) {
    auto call = forward_call();
    call.tape.every = every;
    Index const kept = static_cast<Index>(M::tape_size(call.x, positions_, every));
    call.tape.states = {room_.make<State>(kept), to_size(kept)};
    double bytes = input_bytes_ + output_bytes() + static_cast<double>(kept) * sizeof(State);  // dy is like y
    if constexpr (requires { call.tape.readings; }) {
      call.tape.readings = {room_.make<T>(tokens_ * heads_ * values), tokens_, heads_};
      bytes += static_cast<double>(tokens_ * heads_ * values) * sizeof(T);
    }
    good(cuda::forward<M>(call, clock_.stream));
    auto* const dy = room_.make<In>(tokens_ * heads_ * values);
    draw(dy, tokens_ * heads_, values, Draw::normal);
    std::vector<std::pair<In*, Index>> found;
    auto const dx = gradients(found, std::make_index_sequence<kinds<M>.size()>());
    for (auto const& [data, n] : found) bytes += static_cast<double>(n) * sizeof(In);
    std::size_t const numbers = room(call.x, every);
    typename M::BackwardCall const back{.x = call.x,
                                        .dy = {dy, tokens_, heads_},
                                        .tape = call.tape,
                                        .dx = dx,
                                        .workspace = {room_.make<T>(static_cast<Index>(numbers)), numbers},
                                        .offsets = offsets_};
    measure(
        rows, name, bytes, by, [&] { good(verb(back)); },
        [&] {
          for (auto const& [data, n] : found) check(data, n);
        });
  }

  static constexpr char const* name_of_memory() { return M::name; }
  double output_bytes() const { return static_cast<double>(tokens_ * heads_ * values) * sizeof(In); }
  double state_bytes() const { return static_cast<double>(sequences_ * heads_) * sizeof(State); }

  static void good(cuda::Status const& status) {
    if (!status) throw std::runtime_error(status.message());
  }
  /// A row with the time of f; what goes wrong is its problem.
  template <class F, class Check>
  void measure(std::vector<Row>& rows, char const* verb, double bytes, Work by, F&& f, Check&& check) {
    Row row{name(verb),
            0,
            static_cast<double>(tokens_),
            bytes,
            by.multiply_adds * static_cast<double>(tokens_ * heads_ * elements<M>),
            by.on_tensor_cores};
    try {
      row.ms = clock_.median(f);
      check();
    } catch (std::exception const& e) {
      row.problem = e.what();
    }
    rows.push_back(row);
  }
  template <class X> void check(X const* x, Index n) {
    unsigned long long count = 0;
    must(cudaMemset(count_, 0, sizeof(count)), "cudaMemset");
    count_no_numbers<<<1024, 256>>>(x, n, count_);
    must(cudaGetLastError(), "a launch");
    must(cudaMemcpy(&count, count_, sizeof(count), cudaMemcpyDeviceToHost), "cudaMemcpy");
    if (count > 0) throw std::runtime_error(std::to_string(count) + " results are no finite numbers");
  }
  void draw(In* to, Index rows, Index size, Draw kind) {
    fill<<<static_cast<unsigned>(blocks_for(rows)), threads>>>(to, rows, size, kind, ++stream_);
    must(cudaGetLastError(), "a launch");
    must(cudaDeviceSynchronize(), "drawing inputs");  // other streams do not wait
  }

  /// A field of the inputs, made when it is known which. Fields of heads have no token.
  struct Made {
    Sequences& to;
    Draw kind;
    template <Index N> In* numbers(Index rows) const {
      In* const data = to.room_.template make<In>(rows * N);
      to.draw(data, rows, N, kind);
      to.input_bytes_ += static_cast<double>(rows * N) * sizeof(In);
      return data;
    }
    template <Index N> operator Source<N>() const {
      return {numbers<N>(to.tokens_ * to.heads_), to.tokens_, to.heads_};
    }
    template <Index N> operator HeadSource<N>() const { return {numbers<N>(to.heads_), to.heads_}; }
  };
  /// The same of the gradients, whose places are noted.
  struct Wanted {
    Sequences& to;
    std::vector<std::pair<In*, Index>>& found;
    template <Index N> In* numbers(Index rows) const {
      found.emplace_back(to.room_.template make<In>(rows * N), rows * N);
      return found.back().first;
    }
    template <Index N> operator Sink<N>() const { return {numbers<N>(to.tokens_ * to.heads_), to.tokens_, to.heads_}; }
    template <Index N> operator HeadSink<N>() const { return {numbers<N>(to.heads_), to.heads_}; }
  };
  template <std::size_t... i> typename M::Inputs inputs(std::index_sequence<i...>) {
    return {Made{*this, kinds<M>[i]}...};
  }
  template <std::size_t... i>
  typename M::Gradients gradients(std::vector<std::pair<In*, Index>>& found, std::index_sequence<i...>) {
    return {((void)i, Wanted{*this, found})...};
  }
  typename M::ForwardCall forward_call() {
    if (inputs_.empty()) inputs_.push_back(inputs(std::make_index_sequence<kinds<M>.size()>()));
    return {.x = inputs_.front(),
            .y = {y_, tokens_, heads_},
            .states = {states_, to_size(sequences_ * heads_)},
            .offsets = offsets_};
  }
  /// As many pieces as fill the device several times over.
  template <class Call, class Time> void pieces(Call const& call, Time&& time) {
    int processors = 0;
    good(cuda::processors("forward_in_pieces", processors));
    Index const piece = std::max<Index>(tokens_ * heads_ / (4 * processors) / 64 * 64, 64);
    std::size_t const numbers = cuda::pieces_workspace<M>(call.x, heads_, piece);
    std::span<T> const workspace{room_.make<T>(static_cast<Index>(numbers)), numbers};
    time("forward_in_pieces", [&] { return cuda::forward_in_pieces<M>(call, piece, workspace, clock_.stream); });
    if constexpr (sizeof(In) == 2)
      if (cuda::tensor_cores("bench_cuda"))
        time(
            "chunks_in_pieces", [&] { return cuda::forward_in_pieces<M, In>(call, piece, workspace, clock_.stream); },
            work_in_chunks<M>);
  }

  Clock const& clock_;
  Room room_;
  Index sequences_, heads_, length_, tokens_;
  std::vector<Index> positions_;
  std::span<Index const> offsets_;
  double input_bytes_ = 0;
  std::uint64_t stream_ = 0;
  std::vector<typename M::Inputs> inputs_;  // none or one
  In* y_ = nullptr;
  State* states_ = nullptr;
  unsigned long long* count_ = nullptr;
};

template <class M, Stored In>
void run(std::vector<Row>& rows, Clock const& clock, Index sequences, Index heads, Index length) {
  std::string name = "?";
  try {
    Sequences<M, In> all(clock, sequences, heads, length);
    name = all.name("");
    all.forward(rows);
    all.backward(rows);
  } catch (std::exception const& e) {
    rows.push_back({.name = name, .problem = e.what()});
  }
}

std::vector<Row> run_all(Clock const& clock, bool brief) {
  std::vector<Row> rows;
  struct Shape {
    Index sequences, heads, length;
  };
  std::vector<Shape> const shapes =
      brief ? std::vector<Shape>{{2, 4, 256}, {1, 4, 1024}} : std::vector<Shape>{{8, 32, 4096}, {1, 32, 65536}};
  for (auto const& [sequences, heads, length] : shapes) {
    run<Wkv7<float, 64>, float>(rows, clock, sequences, heads, length);
    run<Wkv7<float, 64>, bf16>(rows, clock, sequences, heads, length);
    run<Wkv6<float, 64>, float>(rows, clock, sequences, heads, length);
    run<Wkv6<float, 64>, bf16>(rows, clock, sequences, heads, length);
    run<GatedDeltaNet<float, 128>, float>(rows, clock, sequences, heads / 2, length);
    run<GatedDeltaNet<float, 128>, bf16>(rows, clock, sequences, heads / 2, length);
    run<Wkv4<float, 4096>, float>(rows, clock, sequences, 1, length);
  }
  return rows;
}

// --- what is said of it ---------------------------------------------------------------------------------------------

using Others = std::map<std::string, double, std::less<>>;

Others read_others(char const* path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(std::string("cannot open ") + path);
  Others others;
  std::string name;
  for (double ms = 0; file >> name >> ms;) others[name] = ms;
  return others;
}

struct Floors {
  double bytes_ms, operations_ms;
  Floors(Machine const& machine, Row const& row)
      : bytes_ms(row.bytes / machine.bytes_a_ms),
        operations_ms(row.multiply_adds /
                      (row.on_tensor_cores ? machine.tensor_multiply_adds_a_ms : machine.multiply_adds_a_ms)) {}
  double larger() const { return std::max(bytes_ms, operations_ms); }
};

void print_table(Machine const& machine, std::vector<Row> const& rows, Others const& others) {
  std::printf("%s, %d multiprocessors, compute capability %d.%d; driver for CUDA %d.%d, runtime %d.%d, nvcc %d.%d\n",
              machine.device.name, machine.device.multiProcessorCount, machine.device.major, machine.device.minor,
              machine.driver / 1000, machine.driver % 1000 / 10, machine.runtime / 1000, machine.runtime % 1000 / 10,
              __CUDACC_VER_MAJOR__, __CUDACC_VER_MINOR__);
  std::printf(
      "copy: %.0f GB/s read and written; multiply-adds: %.2f 10^12/s of floats, %.2f of TF32 on tensor cores\n\n",
      machine.bytes_a_ms / 1e6, machine.multiply_adds_a_ms / 1e9, machine.tensor_multiply_adds_a_ms / 1e9);
  std::printf("%-57s %10s %12s %11s %11s %9s %9s\n", "", "ms", "10^6 tokens/s", "bytes, ms", "sums, ms", "of floor",
              "other, ms");
  for (Row const& row : rows) {
    std::printf("%-57s ", row.name.c_str());
    if (!row.problem.empty()) {
      std::printf("FAILED: %s\n", row.problem.c_str());
      continue;
    }
    Floors const floors(machine, row);
    std::printf("%10.3f %13.3f %11.3f %11.3f %8.0f%%", row.ms, row.tokens / row.ms / 1e3, floors.bytes_ms,
                floors.operations_ms, 100 * floors.larger() / row.ms);
    if (auto const other = others.find(row.name); other != others.end()) std::printf(" %9.3f", other->second);
    std::printf("\n");
  }
}

/// Text between quotes of JSON.
std::string quoted(std::string const& text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return result + '"';
}

bool write_json(char const* path, Machine const& machine, std::vector<Row> const& rows, Others const& others) {
  std::FILE* const file = std::fopen(path, "w");
  if (file == nullptr) return false;
  std::fprintf(
      file,
      "{\n  \"device\": %s,\n  \"multiprocessors\": %d,\n  \"compute_capability\": \"%d.%d\",\n  \"driver\": %d,\n"
      "  \"runtime\": %d,\n  \"nvcc\": \"%d.%d\",\n  \"copy_bytes_per_second\": %.6g,\n  \"multiply_adds_per_second\": "
      "%.6g,\n"
      "  \"tensor_multiply_adds_per_second\": %.6g,\n"
      "  \"rows\": [",
      quoted(machine.device.name).c_str(), machine.device.multiProcessorCount, machine.device.major,
      machine.device.minor, machine.driver, machine.runtime, __CUDACC_VER_MAJOR__, __CUDACC_VER_MINOR__,
      machine.bytes_a_ms * 1e3, machine.multiply_adds_a_ms * 1e3, machine.tensor_multiply_adds_a_ms * 1e3);
  char const* comma = "\n";
  for (Row const& row : rows) {
    Floors const floors(machine, row);
    std::fprintf(file, "%s    {\"name\": %s, ", comma, quoted(row.name).c_str());
    comma = ",\n";
    if (!row.problem.empty()) {
      std::fprintf(file, "\"problem\": %s}", quoted(row.problem).c_str());
      continue;
    }
    std::fprintf(file,
                 "\"milliseconds\": %.6g, \"tokens_per_second\": %.6g, \"bytes\": %.6g, \"multiply_adds\": %.6g, "
                 "\"on_tensor_cores\": %s, "
                 "\"bytes_floor_milliseconds\": %.6g, \"operations_floor_milliseconds\": %.6g, \"of_floor\": %.4f",
                 row.ms, row.tokens / row.ms * 1e3, row.bytes, row.multiply_adds,
                 row.on_tensor_cores ? "true" : "false", floors.bytes_ms, floors.operations_ms,
                 floors.larger() / row.ms);
    if (auto const other = others.find(row.name); other != others.end())
      std::fprintf(file, ", \"other_milliseconds\": %.6g", other->second);
    std::fprintf(file, "}");
  }
  std::fprintf(file, "\n  ]\n}\n");
  return std::fclose(file) == 0;
}

int main_of(int argc, char** argv) {
  bool brief = false, once = false;
  char const *json = nullptr, *beside = nullptr;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--short") == 0)
      brief = true;
    else if (std::strcmp(argv[i], "--once") == 0)
      brief = once = true;
    else if (std::strcmp(argv[i], "--json") == 0 && i + 1 < argc)
      json = argv[++i];
    else if (std::strcmp(argv[i], "--beside") == 0 && i + 1 < argc)
      beside = argv[++i];
    else
      return std::fprintf(stderr, "bench_cuda: expected [--short | --once] [--json FILE] [--beside FILE], found %s\n",
                          argv[i]),
             2;
  }
  int devices = 0;
  if (cudaError_t const e = cudaGetDeviceCount(&devices); e != cudaSuccess || devices == 0)
    return std::fprintf(stderr, "bench_cuda: no GPU to measure: %s\n", cudaGetErrorString(e)), 77;
  try {
    Others const others = beside != nullptr ? read_others(beside) : Others();
    Clock const clock(once);
    Machine const machine(clock, brief);
    std::vector<Row> const rows = run_all(clock, brief);
    print_table(machine, rows, others);
    if (json != nullptr && !write_json(json, machine, rows, others))
      throw std::runtime_error(std::string("cannot write ") + json);
    return std::ranges::any_of(rows, [](Row const& row) { return !row.problem.empty(); }) ? 1 : 0;
  } catch (std::exception const& e) {
    return std::fprintf(stderr, "bench_cuda: %s\n", e.what()), 1;
  }
}

}  // namespace
}  // namespace aviary::bench

int main(int argc, char** argv) { return aviary::bench::main_of(argc, argv); }
