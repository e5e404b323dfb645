// Attention and the KV cache of every device: ragged batches against arithmetic in double, bit-equal for any number of
// threads.
#include <numeric>

#include "support.h"

namespace finermoe {
namespace {

class AttentionOfDevices : public EveryDevice {};
FINERMOE_FOR_EVERY_DEVICE(AttentionOfDevices);

// A small model's attention: four sessions of different lengths and cache types in one ragged batch.
struct RaggedCase {
  static constexpr uint64_t h = 40, n_heads = 6, n_kv_heads = 2, d = 12, capacity = 700, n_layers = 2, layer = 1;
  AttentionShape shape{h, n_heads, n_kv_heads, d};
  RandomMatrix q{DType::bf16, n_heads*d, h, 20}, k{DType::bf16, n_kv_heads*d, h, 21};
  RandomMatrix v{DType::f32, n_kv_heads* d, h, 22};
  RandomMatrix q_bias{DType::bf16, n_heads*d, 1, 23}, k_bias{DType::bf16, n_kv_heads*d, 1, 24};
  RandomMatrix v_bias{DType::f16, n_kv_heads* d, 1, 25};
  std::vector<DType> types{DType::f32, DType::f16, DType::bf16, DType::q8};
  std::vector<std::vector<float>> inputs;  // [session][position, h]
  std::shared_ptr<Backend> device;
  std::vector<std::unique_ptr<KvCache>> caches;

  RaggedCase() {
    for (size_t s = 0; s < types.size(); s++) inputs.push_back(random_floats(capacity * h, uint32_t(30 + s)));
  }
  explicit RaggedCase(std::shared_ptr<Backend> on) : RaggedCase() { open(std::move(on)); }
  // On a device, with empty caches.
  void open(std::shared_ptr<Backend> on) {
    caches.clear();
    device = std::move(on);
    for (const DType type : types) {
      auto cache = device->make_kv_cache({n_layers, n_kv_heads, d, capacity, type}, no_limit(), "a test");
      EXPECT_TRUE(cache.ok());
      caches.push_back(std::move(*cache));
    }
  }
  std::vector<KvCache*> cache_pointers() const {
    std::vector<KvCache*> pointers;
    for (const auto& cache : caches) pointers.push_back(cache.get());
    return pointers;
  }

  bool has_bias = true;
  QkvWeights weights(Operations& on) const {
    if (!has_bias) return {on.bind(q), on.bind(k), on.bind(v), {}, {}, {}};
    return {on.bind(q),
            on.bind(k),
            on.bind(v),
            on.bind(q_bias.vector()),
            on.bind(k_bias.vector()),
            on.bind(v_bias.vector())};
  }

  struct Run {
    uint32_t session, begin, end;
  };
  // One step over these runs of positions; the attention's output, rows in the order of the runs.
  std::vector<float> step(const std::vector<Run>& runs) {
    std::vector<float> x;
    std::vector<uint32_t> positions, sessions;
    for (const Run& run : runs) {
      for (uint32_t p = run.begin; p < run.end; p++) {
        positions.push_back(p), sessions.push_back(run.session);
        x.insert(x.end(), &inputs[run.session][p * h], &inputs[run.session][p * h] + h);
      }
    }
    const size_t n = positions.size();
    const std::vector<int32_t> tokens(n);
    const std::vector<KvCache*> of_sessions = cache_pointers();
    Operations on(*device, config(), n);
    on.begin({tokens, positions, sessions, of_sessions, as_alone}, precision);
    const DevicePtr<float> out = on.put(std::vector<float>(n * n_heads * d)), queries = on->activations().q;
    on->qkv(on.put(x), weights(on), shape, layer, queries);
    on->attention(queries, shape, layer, out);
    return on.get(out, n * n_heads * d);
  }

  // Attention alone of one row for each session, with queries that depend on the session.
  std::vector<float> decode(const std::vector<uint32_t>& of_sessions, const std::vector<uint32_t>& positions) {
    const size_t n = positions.size();
    std::vector<float> queries;
    for (uint32_t session : of_sessions) {
      const std::vector<float> q_of_session = random_floats(n_heads * d, 70 + session);
      queries.insert(queries.end(), q_of_session.begin(), q_of_session.end());
    }
    const std::vector<int32_t> tokens(n);
    const std::vector<KvCache*> pointers = cache_pointers();
    Operations on(*device, config(), n);
    on.begin({tokens, positions, of_sessions, pointers}, precision);
    const DevicePtr<float> out = on.put(std::vector<float>(n * n_heads * d));
    on->attention(on.put(queries), shape, layer, out);
    return on.get(out, n * n_heads * d);
  }

  static Config config() {
    Config config = config_of(h, 8, {}, 0, d);
    config.n_heads = n_heads, config.n_kv_heads = n_kv_heads;
    return config;
  }
  Precision precision = Precision::exact;
  bool as_alone = false;

  static double angle(uint32_t position, uint64_t i) { return position / std::pow(10000.0, 2.0 * double(i) / d); }

  // Rotated (or plain) projection of one position, in double.
  std::vector<double> projected(const RandomMatrix& w, const RandomMatrix& bias, uint32_t session, uint32_t position,
                                uint64_t head, bool rotated) const {
    const std::vector<double> all = w.times(&inputs[session][position * h]);
    std::vector<double> plain(d), out(d);
    for (uint64_t i = 0; i < d; i++) plain[i] = all[head * d + i] + double(bias.values()[head * d + i]);
    if (!rotated) return plain;
    for (uint64_t i = 0; i < d / 2; i++) {
      const double c = std::cos(angle(position, i)), s = std::sin(angle(position, i));
      out[i] = plain[i] * c - plain[d / 2 + i] * s;
      out[d / 2 + i] = plain[d / 2 + i] * c + plain[i] * s;
    }
    return out;
  }

  // What a row should give, all heads, in double.
  std::vector<double> expected(uint32_t session, uint32_t position) const {
    std::vector<double> out(n_heads * d);
    for (uint64_t head = 0; head < n_heads; head++) {
      const uint64_t kv_head = head / (n_heads / n_kv_heads);
      const std::vector<double> query = projected(q, q_bias, session, position, head, true);
      double total = 0;
      const uint64_t seen = shape.window == 0 ? position + 1 : std::min<uint64_t>(shape.window, position + 1);
      for (auto p = uint32_t(position + 1 - seen); p <= position; p++) {
        const std::vector<double> key = projected(k, k_bias, session, p, kv_head, true);
        const double probability =
            std::exp(std::inner_product(key.begin(), key.end(), query.begin(), 0.0) / std::sqrt(double(d)) - 60);
        total += probability;
        const std::vector<double> value = projected(v, v_bias, session, p, kv_head, false);
        for (uint64_t i = 0; i < d; i++) out[head * d + i] += probability * value[i];
      }
      for (uint64_t i = 0; i < d; i++) out[head * d + i] /= total;
    }
    return out;
  }
};

TEST_P(AttentionOfDevices, RaggedBatches) {
  RaggedCase c;
  c.q = RandomMatrix(DType::bf16, c.n_heads * c.d, c.h, 20, 0.1f);  // scores of a size that softmax can tell apart
  c.k = RandomMatrix(DType::bf16, c.n_kv_heads * c.d, c.h, 21, 0.1f);
  const uint64_t width = c.n_heads * c.d;
  const double rounding[] = {1e-5, 3e-3, 2e-2, 2e-2};  // of the sessions' types of cache
  for (auto [precision, window] : {std::pair{Precision::exact, 0},
                                   {Precision::fast, 0},
                                   {Precision::exact, 10},
                                   {Precision::exact, 300},
                                   {Precision::fast, 300}}) {
    SCOPED_TRACE(format_text("window ", window));
    c.precision = precision;
    c.shape.window = uint64_t(window);
    std::vector<float> first_out;
    for (const uint32_t n_threads : thread_counts()) {
      c.open(device(n_threads));
      // Prefill of three sessions, one longer than what one task takes; then a decode row, a chunk, a first prefill and
      // a decode row together.
      std::vector<float> out = c.step({{0, 0, 610}, {2, 0, 21}, {3, 0, 520}});
      const std::vector<float> second = c.step({{2, 21, 22}, {0, 610, 623}, {1, 0, 5}, {3, 520, 521}});
      out.insert(out.end(), second.begin(), second.end());
      for (auto [row, session, position] : {std::tuple{0, 0u, 0u},
                                            {69, 0u, 69u},
                                            {610, 2u, 0u},
                                            {630, 2u, 20u},
                                            {632, 3u, 1u},
                                            {1151, 2u, 21u},
                                            {1152, 0u, 610u},
                                            {1164, 0u, 622u},
                                            {1169, 1u, 4u},
                                            {1170, 3u, 520u}}) {
        SCOPED_TRACE(format_text("row ", row));
        expect_close(&out[size_t(row) * width], c.expected(session, position),
                     precision == Precision::exact ? rounding[session] : 3e-2);
      }
      if (first_out.empty()) first_out = out;
      EXPECT_EQ(0, std::memcmp(first_out.data(), out.data(), out.size() * sizeof(float))) << n_threads;
    }
  }
}

TEST_P(AttentionOfDevices, ChunksAgreeWithTheWhole) {
  RaggedCase c(device());
  for (uint64_t window : {0, 1, 64, 130}) {
    c.shape.window = window;
    const std::vector<float> whole = c.step({{0, 0, 400}});
    std::vector<float> chunks;
    for (auto [begin, end] : {std::pair{0u, 1u}, {1u, 40u}, {40u, 41u}, {41u, 350u}, {350u, 400u}}) {
      const std::vector<float> part = c.step({{0, begin, end}});
      chunks.insert(chunks.end(), part.begin(), part.end());
    }
    expect_close(chunks.data(), whole, 1e-4);
  }
}

TEST_P(AttentionOfDevices, DecodingTogetherGivesTheSameBitsAsAlone) {
  RaggedCase c(device());
  for (uint32_t session = 0; session < 4; session++) c.step({{session, 0, c.capacity}});
  const std::vector<uint32_t> sessions = {0, 1, 2, 3}, positions = {699, 70, 300, 520};
  for (auto [precision, window] :
       {std::pair{Precision::exact, 0}, {Precision::fast, 0}, {Precision::exact, 100}, {Precision::fast, 500}}) {
    c.precision = precision;
    c.shape.window = uint64_t(window);
    std::vector<float> alone;
    for (uint32_t session : sessions) {
      const std::vector<float> out = c.decode({session}, {positions[session]});
      alone.insert(alone.end(), out.begin(), out.end());
    }
    EXPECT_EQ(alone, c.decode(sessions, positions));
  }
}

// Beside where a GPU divides a row's positions into one more part.
TEST_P(AttentionOfDevices, RowsAsAloneHaveTheBitsOfPassesOfTheirOwn) {
  RaggedCase c(device());
  const std::vector<RaggedCase::Run> runs = {{0, 506, 516}, {3, 253, 259}};
  for (auto [precision, window] :
       {std::pair{Precision::exact, 0}, {Precision::fast, 0}, {Precision::exact, 100}, {Precision::fast, 300}}) {
    c.precision = precision;
    c.shape.window = uint64_t(window);
    c.step({{0, 0, 506}, {3, 0, 253}});
    c.as_alone = true;
    const std::vector<float> together = c.step(runs);
    c.as_alone = false;
    std::vector<float> alone;
    for (const RaggedCase::Run& run : runs) {
      for (uint32_t p = run.begin; p < run.end; p++) {
        const std::vector<float> out = c.step({{run.session, p, p + 1}});
        alone.insert(alone.end(), out.begin(), out.end());
      }
    }
    EXPECT_EQ(together, alone) << "window " << window;
  }
}

TEST_P(AttentionOfDevices, WithoutBiases) {
  RaggedCase c(device()), zeros(device());
  for (RandomMatrix* bias : {&zeros.q_bias, &zeros.k_bias, &zeros.v_bias}) {
    *bias = RandomMatrix(DType::f32, bias->tensor().rows, 1, 1, 0);
  }
  c.has_bias = false;
  EXPECT_EQ(c.step({{0, 0, 70}, {3, 0, 2}}), zeros.step({{0, 0, 70}, {3, 0, 2}}));
}

// One key-value head, 130 query heads: more than one kernel call holds.
TEST_P(AttentionOfDevices, ManyQueryHeadsShareOneKeyValueHead) {
  const uint64_t n_heads = 130, d = 16, n = 300;
  const AttentionShape shape{n_heads * d, n_heads, 1, d};
  const std::vector<float> keys = random_floats(n * d, 40, 0.8f), values = random_floats(n * d, 41);
  const std::vector<float> queries = random_floats(n_heads * d, 42, 2);
  auto backend = device();
  auto cache = backend->make_kv_cache({1, 1, d, n, DType::f32}, no_limit(), "a test");
  ASSERT_TRUE(cache.ok());
  ASSERT_TRUE((*cache)->write(0, 0, n, std::as_bytes(std::span(keys))).ok());
  ASSERT_TRUE((*cache)->write(1, 0, n, std::as_bytes(std::span(values))).ok());
  Config config = config_of(8, 8, {}, 0, d);
  config.n_heads = n_heads;
  for (uint32_t position : {0u, 299u}) {
    const std::vector<int32_t> tokens(1);
    const std::vector<uint32_t> positions{position}, sessions(1);
    KvCache* const of_session = cache->get();
    Operations on(*backend, config, 1);
    on.begin({tokens, positions, sessions, {&of_session, 1}}, Precision::exact);
    const DevicePtr<float> place = on.put(std::vector<float>(n_heads * d));
    on->attention(on.put(queries), shape, 0, place);
    const std::vector<float> out = on.get(place, n_heads * d);
    std::vector<double> expected(n_heads * d);
    for (size_t head = 0; head < n_heads; head++) {
      double total = 0;
      for (size_t p = 0; p <= position; p++) {
        const double score = std::inner_product(&keys[p * d], &keys[p * d] + d, &queries[head * d], 0.0);
        const double probability = std::exp(score / std::sqrt(double(d)) - 20);
        total += probability;
        for (size_t c = 0; c < d; c++) expected[head * d + c] += probability * double(values[p * d + c]);
      }
      for (size_t c = 0; c < d; c++) expected[head * d + c] /= total;
    }
    expect_close(out.data(), expected, 5e-6);
  }
}

// The cache: vectors come back as they were written, prefixes are copied, positions move down with their keys turned.
class KvCacheOfDevices : public EveryDevice {};
FINERMOE_FOR_EVERY_DEVICE(KvCacheOfDevices);

std::vector<std::byte> read_all(const KvCache& cache, uint64_t head, size_t n) {
  std::vector<std::byte> vectors(n * cache.shape().vector_bytes());
  EXPECT_TRUE(cache.read(head, 0, n, vectors).ok());
  return vectors;
}

TEST_P(KvCacheOfDevices, VectorsComeBackAndPrefixesAreCopied) {
  auto backend = device();
  for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8}) {
    for (uint64_t d : {2, 12, 36, 128}) {
      SCOPED_TRACE(format_text(name_of(dtype), " ", d));
      const KvShape shape{2, 3, d, 50, dtype}, longer{2, 3, d, 90, dtype};
      auto cache = backend->make_kv_cache(shape, no_limit(), "a test");
      auto copy = backend->make_kv_cache(longer, no_limit(), "a test");
      ASSERT_TRUE(cache.ok() && copy.ok());
      std::vector<std::vector<std::byte>> heads;
      for (uint64_t head = 0; head < shape.n_heads(); head++) {
        std::vector<std::byte>& vectors = heads.emplace_back(37 * shape.vector_bytes());
        for (size_t i = 0; i < vectors.size(); i++) vectors[i] = std::byte(i * 37 + head);
        ASSERT_TRUE((*cache)->write(head, 0, 20, std::span(vectors).first(20 * shape.vector_bytes())).ok());
        ASSERT_TRUE((*cache)->write(head, 20, 17, std::span(vectors).subspan(20 * shape.vector_bytes())).ok());
      }
      ASSERT_TRUE((*copy)->copy_prefix(**cache, 37).ok());
      for (uint64_t head = 0; head < shape.n_heads(); head++) {
        EXPECT_EQ(heads[head], read_all(**cache, head, 37));
        EXPECT_EQ(heads[head], read_all(**copy, head, 37));
      }
      EXPECT_LE(37 * shape.n_heads() * shape.vector_bytes(), (*cache)->bytes());
    }
  }
}

// Caches of several blocks of positions, whose size differs with the capacity; and move_down() across their ends.
TEST_P(KvCacheOfDevices, PrefixesAreCopiedBetweenCachesOfAnyCapacity) {
  auto backend = device();
  for (DType dtype : {DType::f32, DType::bf16, DType::q8}) {
    const uint64_t d = 128;
    const size_t n = 1100;
    std::vector<std::byte> vectors(n * KvShape{1, 1, d, n, dtype}.vector_bytes());
    const size_t vector_bytes = vectors.size() / n;
    for (size_t i = 0; i < vectors.size(); i++) vectors[i] = std::byte(i / 7 * 37 % 120);
    for (auto [from, capacity] : {std::pair{1100, 1100}, {1100, 2500}, {1100, 4096}, {4096, 1100}}) {
      SCOPED_TRACE(format_text(name_of(dtype), ", from capacity ", from, " to ", capacity));
      auto cache = backend->make_kv_cache({1, 1, d, uint64_t(from), dtype}, no_limit(), "a test");
      ASSERT_TRUE(cache.ok());
      for (uint64_t head : {0, 1}) ASSERT_TRUE((*cache)->write(head, 0, n, vectors).ok());
      auto copy = backend->make_kv_cache({1, 1, d, uint64_t(capacity), dtype}, no_limit(), "a test");
      ASSERT_TRUE(copy.ok() && (*copy)->copy_prefix(**cache, n).ok());
      for (uint64_t head : {0, 1}) EXPECT_EQ(read_all(**copy, head, n), vectors);
      ASSERT_TRUE((*copy)->move_down(300, n, 200, Rope()).ok());
      std::vector<std::byte> expected(vectors.begin(), vectors.begin() + long(100 * vector_bytes));
      expected.insert(expected.end(), vectors.begin() + long(300 * vector_bytes), vectors.end());
      EXPECT_EQ(read_all(**copy, 1, n - 200), expected);
    }
  }
}

TEST_P(KvCacheOfDevices, MovedKeysAreTurnedBack) {
  const uint64_t d = 12;
  const size_t n = 30, begin = 13, by = 5;
  auto backend = device();
  auto cache = backend->make_kv_cache({1, 1, d, n, DType::f32}, no_limit(), "a test");
  ASSERT_TRUE(cache.ok());
  const std::vector<float> keys = random_floats(n * d, 1), values = random_floats(n * d, 2);
  ASSERT_TRUE((*cache)->write(0, 0, n, std::as_bytes(std::span(keys))).ok());
  ASSERT_TRUE((*cache)->write(1, 0, n, std::as_bytes(std::span(values))).ok());
  ASSERT_TRUE((*cache)->move_down(begin, n, by, Rope()).ok());
  std::vector<float> moved(n * d);
  ASSERT_TRUE((*cache)->read(0, 0, n, std::as_writable_bytes(std::span(moved))).ok());
  for (size_t p = 0; p + by < n; p++) {
    for (size_t i = 0; i < d / 2; i++) {
      const size_t from = p + by < begin ? p : p + by;  // those before it stay
      const double angle = p + by < begin ? 0 : -double(by) / std::pow(10000.0, 2.0 * double(i) / double(d));
      const double x = keys[from * d + i], y = keys[from * d + d / 2 + i];
      ASSERT_NEAR(moved[p * d + i], x * std::cos(angle) - y * std::sin(angle), 1e-6) << p;
      ASSERT_NEAR(moved[p * d + d / 2 + i], y * std::cos(angle) + x * std::sin(angle), 1e-6) << p;
    }
  }
  ASSERT_TRUE((*cache)->read(1, 0, n, std::as_writable_bytes(std::span(moved))).ok());
  EXPECT_TRUE(std::equal(&values[begin * d], &values[begin * d] + (n - begin) * d, &moved[(begin - by) * d]));
}

}  // namespace
}  // namespace finermoe
