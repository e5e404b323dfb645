// Speed of the CPU backend's operations beside the machine's limits, measured in the same rounds: one JSON object a
// line.
//   bench-kernels [THREADS [ISA [CLOCK [PART [PREFETCH BF16_DOTS SIDE_BY_SIDE]]]]]
//     ISA        0 the best, 1 portable, 2 AVX2, 3 AVX-512, 4 AMX
//     CLOCK      wall, or cpu: processor time per thread, for a machine that is busy with other work
//     PART       only what has this in its name; limits: the machine's limits alone
//     PREFETCH, BF16_DOTS, SIDE_BY_SIDE  another choice than that for this processor (cpu/tuning.h): bytes ahead, and
//                          0 or 1 for whether dots are taken and whether rows are read side by side
// An operation takes at least the time of reading its weights or cache in the fastest way, and at least that of its
// MACs in the fastest way to multiply its format, scales of blocks included (bench/arithmetic.h). `share` is that of
// the slower limit, the median over the rounds.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "arithmetic.h"
#include "base/blocks.h"
#include "clock.h"
#include "cpu/cpu_device.h"
#include "cpu/cpu_kv_cache.h"
#include "reading.h"

namespace finermoe {
namespace {

constexpr int n_rounds = 7;

using bench::Clock, bench::median;

Buffer allocate(uint64_t bytes) {
  auto buffer = Buffer::allocate(std::make_shared<MemoryAccount>(0), bytes, "the benchmark");
  if (!buffer.ok()) {
    std::fprintf(stderr, "%s\n", buffer.status().message().c_str());
    std::exit(1);
  }
  return std::move(*buffer);
}

// Activations lie in aligned memory, as they do in a step.
Buffer activations(size_t n) {
  Buffer buffer = allocate(n * sizeof(float));
  std::fill_n(buffer.data<float>(), n, 0.5f);
  return buffer;
}

// Small BF16 numbers, cheaply.
void fill_bf16(Buffer& buffer) {
  std::minstd_rand generator(1);
  auto* values = buffer.data<uint16_t>();
  for (uint64_t i = 0; i < buffer.size() / 2; i++) values[i] = uint16_t(0x3c00 | (generator() & 0x80ff));
}

// The type of the weights, and the precision, which decides whether activations are quantized.
struct Kind {
  const char* name;
  DType dtype;
  Precision precision;
};
constexpr Kind exact = {"BF16 exact", DType::bf16, Precision::exact};
constexpr Kind kinds[] = {exact,
                          {"BF16", DType::bf16, Precision::fast},
                          {"Q8", DType::q8, Precision::fast},
                          {"Q4", DType::q4, Precision::fast}};
// The same for attention, with the type of the cache; queries and probabilities may be quantized.
constexpr Kind caches[] = {{"F32 exact", DType::f32, Precision::exact},   {"F16 exact", DType::f16, Precision::exact},
                           {"BF16 exact", DType::bf16, Precision::exact}, {"Q8 exact", DType::q8, Precision::exact},
                           {"F32", DType::f32, Precision::fast},          {"F16", DType::f16, Precision::fast},
                           {"BF16", DType::bf16, Precision::fast},        {"Q8", DType::q8, Precision::fast}};

struct Bench {
  Clock clock;
  std::string part;
  std::shared_ptr<ThreadPool> pool;
  std::shared_ptr<Backend> backend;
  Buffer weights = allocate(uint64_t{1} << 30);  // far larger than any cache
  Buffer plain = allocate(uint64_t{1} << 30);
  std::vector<tool::ReadingWay> ways{tool::reading_ways().begin(), tool::reading_ways().end()};

  double seconds(FunctionRef<void()> work) const {
    const double begin = clock.now();
    work();
    return clock.now() - begin;
  }

  // GB/s of reading memory with the same threads, in the fastest of all ways the first time, and then in the fastest of
  // the three that were best; the pool hands out blocks of 1.5 MiB, as it hands out weights.
  double read_rate() {
    constexpr size_t block = 512 * tool::row_words;
    const size_t n_blocks = plain.size() / sizeof(uint64_t) / block;
    std::vector<uint64_t> sums(pool->n_threads());
    std::multimap<double, tool::ReadingWay> times;
    for (const tool::ReadingWay& way : ways) {
      const double time = seconds([&] {
        pool->run(n_blocks, [&](size_t task, size_t worker) {
          sums[worker] += tool::sum_words(plain.data<uint64_t>() + task * block, block, way);
        });
      });
      times.emplace(time, way);
    }
    ways.clear();
    for (const auto& [time, way] : times) {
      if (ways.size() < 3) ways.push_back(way);
    }
    return double(n_blocks * block * sizeof(uint64_t)) / times.begin()->first / 1e9;
  }

  // Gop/s of the fastest way to multiply; a MAC is two operations. 0 where there is no probe.
  double arithmetic_rate(bench::Arithmetic kind) {
    constexpr long repeats = 500'000;
    double best = 0;
    for (const bench::ArithmeticWay& way : bench::arithmetic_ways(kind)) {
      const double time = seconds([&] { pool->run(pool->n_threads(), [&](size_t, size_t) { way.run(repeats); }); });
      best = std::max(best, double(repeats) * 2 * way.macs * pool->n_threads() / time / 1e9);
    }
    return best;
  }
  double arithmetic_rate(const Kind& kind) {
    return arithmetic_rate(kind.precision == Precision::exact ? bench::Arithmetic::float32
                           : is_blocked(kind.dtype)           ? bench::Arithmetic::blocks
                                                              : bench::Arithmetic::bf16);
  }

  // Runs limits and operation in turn. `bytes` and `operations` are what one run of it reads and computes: it can take
  // no less time than the slower of both.
  void report(const std::string& name, const Kind& kind, double bytes, double operations, FunctionRef<void()> work) {
    if (name.find(part) == name.npos) return;
    std::vector<double> byte_rates, operation_rates, of_bytes, of_operations;
    for (int round = 0; round < n_rounds; round++) {
      double read = read_rate(), arithmetic = arithmetic_rate(kind);
      const double time = seconds(work);
      read = (read + read_rate()) / 2;
      arithmetic = (arithmetic + arithmetic_rate(kind)) / 2;
      byte_rates.push_back(bytes / time / 1e9);
      operation_rates.push_back(operations / time / 1e9);
      of_bytes.push_back(byte_rates.back() / read);
      of_operations.push_back(operation_rates.back() / arithmetic);
    }
    const bool reads = median(of_bytes) > median(of_operations);
    std::printf("{\"name\":\"%s\",\"gb_per_second\":%.1f,\"gop_per_second\":%.1f,\"limit\":\"%s\",\"share\":%.3f}\n",
                name.c_str(), median(byte_rates), median(operation_rates), reads ? "memory" : "arithmetic",
                median(reads ? of_bytes : of_operations));
    std::fflush(stdout);
  }

  // What the machine can do at most with these threads.
  void limits() {
    std::vector<double> read, rates[4];
    for (int round = 0; round < n_rounds; round++) {
      read.push_back(read_rate());
      for (int i = 0; i < 4; i++) rates[i].push_back(arithmetic_rate(bench::Arithmetic(i)));
    }
    std::printf(
        "{\"read_gb_per_second\":%.1f,\"float32_gop_per_second\":%.1f,\"bf16_gop_per_second\":%.1f,"
        "\"int8_gop_per_second\":%.1f,\"blocks_gop_per_second\":%.1f}\n",
        median(read), median(rates[0]), median(rates[1]), median(rates[2]), median(rates[3]));
  }

  // A step within a pass.
  std::unique_ptr<Step> begin(const Config& config, size_t n, const RaggedBatch& batch, Precision precision) {
    auto step = std::move(*backend->make_step(config, n, 32768, std::make_shared<MemoryAccount>(0)));
    (void)step->begin(batch, precision);
    return step;
  }

  // n vectors with matrices that come from memory, as they do in a step.
  void linear(const Kind& kind, uint64_t rows, uint64_t columns, size_t n) {
    const uint64_t bytes = matrix_bytes(kind.dtype, rows, columns), n_matrices = weights.size() / bytes;
    const uint64_t n_calls = std::clamp<uint64_t>(30'000'000'000 / (rows * columns * n), 8, n_matrices);
    Config config;
    config.vocab_size = 1;
    config.hidden_size = columns;
    auto step = begin(config, n, {}, kind.precision);
    const Buffer x = activations(n * columns), out = activations(n * rows);
    uint64_t next = 0;
    report(format_text(kind.name, " linear ", rows, " x ", columns, ", n = ", n), kind, double(n_calls * bytes),
           2.0 * double(n_calls * rows * columns * n), [&] {
             for (uint64_t i = 0; i < n_calls; i++, next = (next + 1) % n_matrices) {
               const WeightView weight{DevicePtr<const std::byte>(weights.data() + next * bytes), kind.dtype, rows,
                                       columns};
               step->linear(DevicePtr<const float>(x.data<float>()), weight, n, false, DevicePtr(out.data<float>()));
             }
           });
  }

  // FineRMoE-1.5B: 128 experts of width 280, two components; every layer has its own experts.
  void moe(const Kind& kind, size_t n) {
    Config config;
    config.vocab_size = 1;
    config.hidden_size = 1536, config.expert_width = 280;
    RouterShape& shape = config.router;
    shape.granularity_inter = 32, shape.expansion_inter = 1;
    shape.granularity_output = shape.expansion_output = 2, shape.top_inter = 1;
    const uint64_t gate_bytes = matrix_bytes(kind.dtype, 280, 1536);
    const uint64_t expert_bytes = 2 * gate_bytes + matrix_bytes(kind.dtype, 768, 280);
    const uint64_t n_layers = weights.size() / (128 * expert_bytes);
    std::vector<FfnWeights> experts;
    for (uint64_t i = 0; i < n_layers * 128; i++) {
      const DevicePtr<const std::byte> base(weights.data() + i * expert_bytes);
      experts.push_back({{base, kind.dtype, 280, 1536},
                         {base + gate_bytes, kind.dtype, 280, 1536},
                         {base + 2 * gate_bytes, kind.dtype, 768, 280}});
    }
    auto step = begin(config, n, {}, kind.precision);
    std::vector<uint32_t> all(128);
    std::iota(all.begin(), all.end(), 0u);
    const Buffer x = activations(n * 1536), out = activations(n * 1536), factors = activations(n * 2);
    const uint64_t n_steps = n < 8 ? 200 : 3 * n_layers;
    std::minstd_rand generator(2);
    std::vector<int32_t> chosen(n_steps * n * 2);
    for (size_t i = 0; i < chosen.size(); i++) chosen[i] = int32_t(generator() / 7 % 64 + i % 2 * 64);
    auto run = [&] {
      for (uint64_t i = 0; i < n_steps; i++) {
        const Route route{{}, DevicePtr(chosen.data() + i * n * 2), DevicePtr(factors.data<float>()), {}};
        step->moe_ffn(DevicePtr<const float>(x.data<float>()), {&experts[i % n_layers * 128], 128}, all, shape, route,
                      n, true, DevicePtr(out.data<float>()));
      }
    };
    std::vector<bool> touched(n_steps * 128);
    for (size_t i = 0; i < chosen.size(); i++) touched[i / (n * 2) * 128 + size_t(chosen[i])] = true;
    report(format_text(kind.name, " moe_ffn 1.5B, n = ", n), kind,
           double(std::count(touched.begin(), touched.end(), true)) * double(expert_bytes),
           double(n_steps * n * 2) * 2 * (2 * 280 * 1536 + 768 * 280), run);
  }

  // Causal attention of n new rows at the end of `length` positions, the kind's type that of the cache: 12 query and 2
  // key-value heads as in FineRMoE-1.5B; every layer has its own cache.
  void attention(const Kind& kind, size_t n, uint64_t length) {
    const AttentionShape shape{1536, 12, 2, 128};
    Config config;
    config.vocab_size = 1;
    config.n_heads = 12, config.n_kv_heads = 2, config.head_size = 128;
    const Buffer q = activations(n * 1536), out = activations(n * 1536);
    const uint64_t layer_bytes = 2 * 2 * KvLayout(kind.dtype, 128).head_bytes(length);
    const uint64_t n_cached = weights.size() / layer_bytes;
    const KvShape cache_shape{n_cached, 2, 128, length, kind.dtype};
    auto cache = CpuKvCache::make(cache_shape, pool, std::make_shared<MemoryAccount>(0), "the benchmark");
    std::memcpy((*cache)->block(0, 0), weights.data(), std::min((*cache)->bytes(), weights.size()));
    const std::vector<int32_t> tokens(n);
    std::vector<uint32_t> positions(n), sessions(n);
    for (size_t i = 0; i < n; i++) positions[i] = uint32_t(length - n + i);
    KvCache* const of_session = cache->get();
    auto step = begin(config, n, {tokens, positions, sessions, {&of_session, 1}}, kind.precision);
    const double macs = double(n) * (double(length) - double(n - 1) / 2) * 2 * 1536;
    const uint64_t n_layers = n == 1 ? n_cached : uint64_t(1 + 1e10 / macs);
    auto run = [&] {
      for (uint64_t i = 0; i < n_layers; i++) {
        step->attention(DevicePtr<const float>(q.data<float>()), shape, i % n_cached, DevicePtr(out.data<float>()));
      }
    };
    const std::string name = format_text(kind.name, " attention of ", n, " rows over ", length);
    report(name, kind.precision == Precision::fast ? kinds[1] : exact, double(n_layers * layer_bytes),
           2 * macs * double(n_layers), run);
  }
};

int run(uint32_t n_threads, int32_t isa, bool wall, const char* part, std::optional<Tuning> tuning) {
  Bench bench;
  bench.clock = {wall, n_threads};
  bench.part = part;
  bench.pool = std::make_shared<ThreadPool>(n_threads);
  auto backend = cpu_device(nullptr, tuning)->open({isa, bench.pool});
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", backend.status().message().c_str());
    return 1;
  }
  bench.backend = *backend;
  fill_bf16(bench.weights);
  std::fill_n(bench.plain.data<float>(), bench.plain.size() / sizeof(float), 1.0f);
  if (bench.part == "limits") {
    bench.limits();
    return 0;
  }
  for (const Kind& kind : kinds) {
    bench.linear(kind, 1536, 8960, 1);
    bench.linear(kind, 1536, 1536, 1);
    for (size_t n : {1, 2, 4, 8, 16, 32, 64, 512}) bench.linear(kind, 8960, 1536, n);
    bench.linear(kind, 1536, 8960, 16);
    bench.linear(kind, 1536, 8960, 512);
    for (size_t n : {1, 16, 64, 512}) bench.moe(kind, n);
  }
  for (const Kind& kind : caches) {
    for (uint64_t length : {512, 4096, 32768}) bench.attention(kind, 1, length);
    for (uint64_t length : {512, 4096}) bench.attention(kind, 512, length);
  }
  return 0;
}

}  // namespace
}  // namespace finermoe

int main(int argc, char** argv) {
  const uint32_t n_threads = argc > 1 ? uint32_t(std::atoi(argv[1])) : finermoe::available_processors();
  std::optional<finermoe::Tuning> tuning;
  if (argc > 7) {
    tuning = {.bf16_dots = std::atoi(argv[6]) != 0,
              .prefetch = std::strtoull(argv[5], nullptr, 10),
              .rows_side_by_side = std::atoi(argv[7]) != 0};
  }
  return finermoe::run(n_threads, argc > 2 ? std::atoi(argv[2]) : FINERMOE_ISA_AUTO,
                       argc <= 3 || std::strcmp(argv[3], "cpu") != 0, argc > 4 ? argv[4] : "", tuning);
}
