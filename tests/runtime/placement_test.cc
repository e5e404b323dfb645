// What is on which device: plans for a device's memory, models that keep to them, and devices of other machines. The
// device is that of the tests.
#include <cmath>
#include <fstream>

#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/temporary_directory.h"

namespace {

const char* const module = std::getenv("FINERMOE_TEST_DEVICE_MODULE");
const char* const the_device = test_device();
const std::string model_path = golden::trained("tiny-wordnet-finermoe");
const std::vector<int32_t> prompt{5, 6, 7, 8, 9, 10};

// A plan for one thread, or why there is none.
Failure try_plan(finermoe_plan& plan, const char* device, uint64_t memory, uint64_t cache, const std::string& path) {
  auto config = make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open(path.c_str(), out, e); });
  auto options = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  EXPECT_DONE(finermoe_plan_options_set_threads(options.get(), 1, e));
  EXPECT_DONE(finermoe_plan_options_set_device(options.get(), module, device, memory, e));
  EXPECT_DONE(finermoe_plan_options_set_expert_cache(options.get(), cache, e));
  plan.struct_size = sizeof plan;
  return failure_of([&](finermoe_error** e) { return finermoe_plan_compute(config.get(), options.get(), &plan, e); });
}
finermoe_plan plan_with_cache(uint64_t memory, uint64_t cache, const std::string& path = model_path) {
  finermoe_plan plan{};
  EXPECT_EQ(try_plan(plan, the_device, memory, cache, path).message, "");
  return plan;
}
finermoe_plan plan_for(const char* device, uint64_t memory, const std::string& path = model_path) {
  finermoe_plan plan{};
  EXPECT_EQ(try_plan(plan, device, memory, 0, path).message, "");
  return plan;
}
Failure refusal_to_plan(const char* device, uint64_t memory) {
  auto options = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  return failure_of(
      [&](finermoe_error** e) { return finermoe_plan_options_set_device(options.get(), module, device, memory, e); });
}

RuntimeHandle runtime_on(const char* device) {
  auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_threads(options.get(), 1, e));
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), device, e));
  EXPECT_DONE(finermoe_runtime_options_set_device_module(options.get(), module, e));
  return create_runtime(options);
}
uint64_t used(const RuntimeHandle& runtime) {
  finermoe_runtime_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
  return info.memory_used;
}
ModelOptions options_within(const RuntimeHandle& runtime, uint64_t weights, const char* expert_device = nullptr) {
  auto options = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  EXPECT_DONE(finermoe_model_options_set_runtime(options.get(), runtime.get(), e));
  EXPECT_DONE(finermoe_model_options_set_device_weights(options.get(), weights, e));
  EXPECT_DONE(finermoe_model_options_set_expert_device(options.get(), expert_device, e));
  return options;
}
ModelHandle open_within(const RuntimeHandle& runtime, uint64_t weights, const std::string& path = model_path) {
  const auto options = options_within(runtime, weights);
  return make<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(path.c_str(), options.get(), out, e); });
}
Failure refusal_to_open(const RuntimeHandle& runtime, uint64_t weights, const char* expert_device = nullptr) {
  const auto options = options_within(runtime, weights, expert_device);
  finermoe_model* none = nullptr;
  const Failure failure =
      failure_of([&](finermoe_error** e) { return finermoe_model_open(model_path.c_str(), options.get(), &none, e); });
  EXPECT_EQ(none, nullptr);
  return failure;
}
std::vector<float> logits_of(const ModelHandle& model) {
  auto session = open_session(model.get());
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
  return all_logits(session.get());
}

std::vector<float> logits_on_cpu(const std::string& path) {
  return logits_of(open_model(path, runtime_on("cpu").get()));
}

// All plans of a model, from the smallest to the largest, with the least memory of each.
std::vector<finermoe_plan> plans(const char* device, const std::string& path = model_path) {
  std::vector<finermoe_plan> all{plan_for(device, 1, path)};
  const finermoe_plan whole = plan_for(device, uint64_t{1} << 40, path);
  EXPECT_EQ(plan_for(device, whole.device_total, path).device_weights, whole.device_weights);
  while (!testing::Test::HasFailure() && all.back().device_weights < whole.device_weights) {
    uint64_t too_little = all.back().device_total, enough = whole.device_total;
    while (enough - too_little > 1) {
      const uint64_t middle = too_little + (enough - too_little) / 2;
      (plan_for(device, middle, path).device_weights > all.back().device_weights ? enough : too_little) = middle;
    }
    all.push_back(plan_for(device, enough, path));
  }
  return all;
}

TEST(Placement, APlanFillsTheMemoryOfADevice) {
  const std::vector<finermoe_plan> all = plans(the_device);
  const size_t n_layers = 4;
  ASSERT_EQ(all.size(), 2 * n_layers);  // one layer to all of them, then their experts
  for (size_t i = 0; i < all.size(); i++) {
    SCOPED_TRACE(i);
    const finermoe_plan& plan = all[i];
    EXPECT_EQ(plan.device_layers, std::min(i + 1, n_layers));
    EXPECT_EQ(plan.device_moe_layers, i < n_layers ? 0 : i + 1 - n_layers);
    EXPECT_EQ(plan.device_routed, plan.weights_routed / n_layers * plan.device_moe_layers);
    EXPECT_EQ(plan.device_total <= plan.device_memory, i > 0);
    EXPECT_EQ(plan.allocated_total, plan.kv_cache + plan.scratch + plan.device_weights);
    EXPECT_LE(plan.device_bytes_per_token, plan.bytes_per_token);
    EXPECT_EQ(plan.device_bytes_per_token == plan.bytes_per_token, i == all.size() - 1);
    EXPECT_EQ(plan.host_weights == 0, i == all.size() - 1);
    if (i == 0) continue;
    EXPECT_EQ(plan.device_memory, plan.device_total);  // not a byte more than it needs
    EXPECT_GT(plan.device_weights, all[i - 1].device_weights);
    EXPECT_GT(plan.device_bytes_per_token, all[i - 1].device_bytes_per_token);
    EXPECT_LT(plan.host_weights, all[i - 1].host_weights);
  }
}

TEST(Placement, WhatAPlanSaysIsWhatAModelTakes) {
  const std::vector<float> on_cpu = logits_on_cpu(model_path);
  for (const finermoe_plan& plan : plans(the_device)) {
    SCOPED_TRACE(plan.device_weights);
    const auto runtime = runtime_on(the_device);
    const uint64_t before = used(runtime);
    const auto model = open_within(runtime, plan.device_weights);
    const uint64_t with_headers = used(runtime) - before, headers = with_headers - plan.device_weights;
    EXPECT_LT(headers, 200'000u);  // of the files, which a plan does not know
    const auto session = open_session(model.get());
    EXPECT_EQ(used(runtime) - before - headers, plan.allocated_total);
    const std::vector<float> logits = logits_of(model);
    ASSERT_EQ(logits.size(), on_cpu.size());
    for (size_t i = 0; i < logits.size(); i++) ASSERT_NEAR(logits[i], on_cpu[i], 1e-4 + 1e-4 * std::fabs(on_cpu[i]));
    EXPECT_EQ(plan_for(the_device, plan.device_total).device_weights, plan.device_weights);
  }
}

TEST(Placement, ATiedEmbeddingIsOnBothSidesOfTheLayers) {
  const std::string path = golden::source_root() + "/tests/data/shapes/dense-tied";
  const std::vector<float> on_cpu = logits_on_cpu(path);
  for (const finermoe_plan& plan : plans(the_device, path)) {
    const auto model = open_within(runtime_on(the_device), plan.device_weights, path);
    const std::vector<float> logits = logits_of(model);
    for (size_t i = 0; i < logits.size(); i++) ASSERT_NEAR(logits[i], on_cpu[i], 1e-4 + 1e-4 * std::fabs(on_cpu[i]));
  }
}

TEST(Placement, ALimitThatCannotBeKeptIsRefused) {
  const auto runtime = runtime_on(the_device);
  const uint64_t least = plan_for(the_device, 1).device_weights;
  const Failure too_little = refusal_to_open(runtime, least - 1);
  EXPECT_EQ(too_little.code, FINERMOE_ERROR_DEVICE_MEMORY);
  EXPECT_EQ(too_little.expected, "at least " + std::to_string(least) + " bytes");
  EXPECT_EQ(too_little.found, std::to_string(least - 1) + " bytes");
  EXPECT_EQ(refusal_to_open(runtime, least, the_device).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(refusal_to_open(runtime_on("cpu"), least).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_FALSE(logits_of(open_within(runtime, least)).empty());
}

ModelOptions options_with_cache(const RuntimeHandle& runtime, uint64_t cache, uint64_t weights = 0) {
  auto options = options_within(runtime, weights);
  EXPECT_DONE(finermoe_model_options_set_expert_cache(options.get(), cache, e));
  return options;
}
ModelHandle open_with_cache(const ModelOptions& options) {
  return make<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(model_path.c_str(), options.get(), out, e); });
}

// Experts come into a cache of every size, with every share of the rest on the device; a budget of their pages makes no
// difference.
TEST(Placement, FetchedExpertsHaveTheBitsOfThoseOnTheDevice) {
  const std::vector<finermoe_plan> all = plans(the_device);
  const std::vector<float> whole = logits_of(open_within(runtime_on(the_device), 0));
  const uint64_t routed = all.back().device_routed, two_experts = routed / (4 * 32) * 2;
  for (const uint64_t cache : {two_experts, 7 * two_experts, routed}) {
    for (const uint64_t weights : {uint64_t{0}, all[3].device_weights, all[5].device_weights}) {
      const auto runtime = runtime_on(the_device);
      const auto model = open_with_cache(options_with_cache(runtime, cache, weights));
      EXPECT_EQ(logits_of(model), whole) << cache << " bytes, " << weights << " of weights";
    }
  }
  const auto runtime = runtime_on(the_device);
  const auto options = options_with_cache(runtime, two_experts);
  EXPECT_DONE(finermoe_model_options_set_expert_budget(options.get(), 1'000'000, e));
  EXPECT_EQ(logits_of(open_with_cache(options)), whole);
}

// Layers that the CPU has keep their experts there.
TEST(Placement, ACacheIsForTheLayersOfTheDevice) {
  const std::vector<float> on_cpu = logits_on_cpu(model_path);
  for (const finermoe_plan& plan : plans(the_device)) {
    const auto runtime = runtime_on(the_device);
    const auto model = open_with_cache(options_with_cache(runtime, 1'000'000, plan.device_weights));
    const std::vector<float> logits = logits_of(model);
    for (size_t i = 0; i < logits.size(); i++) ASSERT_NEAR(logits[i], on_cpu[i], 1e-4 + 1e-4 * std::fabs(on_cpu[i]));
  }
}

TEST(Placement, ACacheTakesItsMemoryAndNoMore) {
  const std::vector<finermoe_plan> all = plans(the_device);
  const uint64_t routed = all.back().device_routed, expert = routed / (4 * 32);
  const auto taken = [&](uint64_t cache, uint64_t weights) {
    const auto runtime = runtime_on(the_device);
    const auto model = open_with_cache(options_with_cache(runtime, cache, weights));
    return used(runtime);
  };
  const uint64_t without = taken(0, all[3].device_weights);
  const uint64_t copies = taken(2 * expert, all[3].device_weights) - without - 2 * expert;  // what a device copies by
  EXPECT_LE(copies, 4u << 20);
  EXPECT_EQ(taken(3 * expert + 1, all[3].device_weights) - without, 3 * expert + copies);
  EXPECT_EQ(taken(2 * routed, all[3].device_weights) - without, routed + copies);    // all experts, and no slots beside
  EXPECT_EQ(taken(routed, all[7].device_weights), taken(0, all[7].device_weights));  // none is left to be fetched
}

TEST(Placement, ACacheThatCannotBeIsRefused) {
  const auto refusal = [](const ModelOptions& options) {
    finermoe_model* none = nullptr;
    const Failure failure = failure_of(
        [&](finermoe_error** e) { return finermoe_model_open(model_path.c_str(), options.get(), &none, e); });
    EXPECT_EQ(none, nullptr);
    return failure;
  };
  const auto runtime = runtime_on(the_device), cpu = runtime_on("cpu");
  const Failure too_small = refusal(options_with_cache(runtime, 1000));
  EXPECT_EQ(too_small.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(too_small.found, "1000 bytes");
  EXPECT_EQ(refusal(options_with_cache(cpu, 1'000'000)).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  const auto both = options_with_cache(runtime, 1'000'000);
  EXPECT_DONE(finermoe_model_options_set_expert_device(both.get(), "cpu", e));
  EXPECT_EQ(refusal(both).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_FALSE(logits_of(open_with_cache(options_with_cache(runtime, 1'000'000))).empty());
}

constexpr uint64_t kExpert = (2 * 72 * 192 + 96 * 72) * 2;  // bytes of gate, up and down in BF16
constexpr uint64_t kExperts = 4 * 32;                       // of all layers; a token chooses 2 in each
// Bytes of the host that copies into a cache go through.
const uint64_t pinned = the_device != nullptr && std::string(the_device).starts_with("cuda") ? 4 << 20 : 0;

// Four layers, two experts of each a token: with n slots (1 - n / 128) of eight experts are copied.
TEST(Placement, APlanKnowsTheExpertCache) {
  const std::vector<finermoe_plan> all = plans(the_device);
  const finermoe_plan &layers = all[3], &whole = all.back();
  ASSERT_EQ(whole.device_routed, kExperts * kExpert);
  const auto with_slots = [&](uint64_t n) {  // and a few bytes, which are no slot
    return plan_with_cache(layers.device_total + n * kExpert, n * kExpert + 100);
  };
  for (const auto& [n, copied] : std::vector<std::pair<uint64_t, uint64_t>>{
           {2, 8 * 69120}, {6, 8 * 69120}, {7, 522720}, {40, 380160}, {127, 4320}}) {
    SCOPED_TRACE(n);
    const finermoe_plan plan = with_slots(n);
    EXPECT_EQ(plan.expert_cache_slots, n);
    EXPECT_EQ(plan.expert_cache, n * kExpert);
    EXPECT_EQ(plan.fetched_bytes_per_token, copied);
    EXPECT_EQ(plan.device_weights, layers.device_weights);
    EXPECT_EQ(plan.device_layers, 4u);
    EXPECT_EQ(plan.device_moe_layers, 0u);
    EXPECT_EQ(plan.device_total, plan.device_memory);
    EXPECT_EQ(plan.device_bytes_per_token, plan.bytes_per_token);  // the CPU computes nothing
    EXPECT_EQ(plan.bytes_per_token, whole.bytes_per_token);
    EXPECT_EQ(plan.host_weights, layers.host_weights);  // experts stay mapped
    EXPECT_EQ(plan.allocated_total, plan.kv_cache + plan.scratch + plan.device_weights + plan.expert_cache);
    EXPECT_LT(plan.scratch, layers.scratch);  // which has a step of the CPU
  }
}

TEST(Placement, ACacheIsPlannedForWhatHasNoRoom) {
  const std::vector<finermoe_plan> all = plans(the_device);
  const finermoe_plan& whole = all.back();
  // All fits: there is nothing to fetch, however large a cache is allowed.
  for (const uint64_t cache : {2 * kExpert, uint64_t{1} << 38, UINT64_MAX}) {
    const finermoe_plan plan = plan_with_cache(whole.device_total, cache);
    EXPECT_EQ(plan.expert_cache + plan.expert_cache_slots + plan.fetched_bytes_per_token, 0u);
    EXPECT_EQ(plan.device_weights, whole.device_weights);
    EXPECT_EQ(plan.allocated_total, whole.allocated_total);
  }
  // Layers on the CPU compute their experts there.
  const finermoe_plan half = plan_with_cache(all[1].device_total + 10 * kExpert, 10 * kExpert);
  EXPECT_EQ(half.device_layers, 2u);
  EXPECT_EQ(half.fetched_bytes_per_token, 2 * 2 * kExpert * (64 - 10) / 64);
  EXPECT_EQ(half.device_bytes_per_token, all[1].device_bytes_per_token + 2 * 2 * kExpert);
  EXPECT_EQ(half.scratch, all[1].scratch + pinned);
  // No more slots than there are experts to fetch: here those of one layer, as three have found room.
  const finermoe_plan most = plan_with_cache(all[6].device_total + 32 * kExpert - 1, 32 * kExpert - 1);
  EXPECT_EQ(most.device_moe_layers, 3u);
  EXPECT_EQ(most.expert_cache_slots, 31u);
  EXPECT_EQ(most.fetched_bytes_per_token, 2 * kExpert / 32);
  // A cache that leaves no room for the head and a layer does not fit.
  const finermoe_plan none = plan_with_cache(20 * kExpert, 20 * kExpert);
  EXPECT_EQ(none.device_layers, 1u);
  EXPECT_GT(none.device_total, none.device_memory);
}

finermoe_expert_cache_info cache_of(const ModelHandle& model) {
  finermoe_expert_cache_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_model_get_expert_cache(model.get(), &info, e));
  return info;
}

TEST(Placement, WhatAPlanSaysOfACacheIsWhatAModelTakes) {
  const std::vector<finermoe_plan> all = plans(the_device);
  for (const size_t share : {0, 1, 3, 5}) {
    for (const uint64_t cache : {2 * kExpert, 21 * kExpert + 1}) {
      SCOPED_TRACE(testing::Message() << share << ", " << cache);
      const finermoe_plan plan = plan_with_cache(all[share].device_total + cache, cache);
      const auto runtime = runtime_on(the_device);
      const uint64_t before = used(runtime);
      const auto model = open_with_cache(options_with_cache(runtime, cache, plan.device_weights));
      const uint64_t headers = used(runtime) - before - plan.device_weights - plan.expert_cache - pinned;
      EXPECT_LT(headers, 200'000u);
      const auto session = open_session(model.get());
      EXPECT_EQ(used(runtime) - before - headers, plan.allocated_total);
      EXPECT_EQ(cache_of(model).bytes, plan.expert_cache);
      EXPECT_EQ(cache_of(model).n_slots, plan.expert_cache_slots);
    }
  }
}

// Six slots are those of three layers: what a layer chose is gone when its turn comes again, whatever tokens choose.
TEST(Placement, ACacheSaysHowOftenItHit) {
  const finermoe_plan layers = plan_with_cache(plans(the_device)[3].device_total + 6 * kExpert, 6 * kExpert);
  const auto decode = [&](const ModelHandle& model) {
    auto session = open_session(model.get());
    for (const int32_t id : prompt) {
      EXPECT_DONE(finermoe_session_append(session.get(), &id, 1, FINERMOE_LOGITS_LAST, nullptr, e));
    }
  };
  const auto runtime = runtime_on(the_device);
  const auto few = open_with_cache(options_with_cache(runtime, 6 * kExpert, layers.device_weights));
  EXPECT_EQ(cache_of(few).n_hits + cache_of(few).n_misses, 0u);
  decode(few);
  EXPECT_EQ(cache_of(few).n_hits, 0u);
  EXPECT_EQ(cache_of(few).n_misses * kExpert, prompt.size() * layers.fetched_bytes_per_token);
  // With room for all, each is copied once.
  const auto all = open_with_cache(options_with_cache(runtime, kExperts * kExpert, layers.device_weights));
  decode(all);
  const finermoe_expert_cache_info first = cache_of(all);
  EXPECT_EQ(first.n_hits + first.n_misses, prompt.size() * 8);
  EXPECT_GT(first.n_misses, 0u);
  decode(all);
  EXPECT_EQ(cache_of(all).n_misses, first.n_misses);
  EXPECT_EQ(cache_of(all).n_hits, first.n_hits + prompt.size() * 8);
  // A model that fetches none.
  const finermoe_expert_cache_info none = cache_of(open_within(runtime, 0));
  EXPECT_EQ(none.bytes + none.n_slots + none.n_hits + none.n_misses, 0u);
}

// The paper's two models, G_I = 32 and G_O = R_O = 2 on the shapes of Qwen2.5: 28 layers of 128 experts, two a token.
// Within the same memory a cache is expected to copy about what the CPU would read without one: what has a place for
// good is as likely to be chosen as what is in the cache.
TEST(Placement, ACacheForThePapersModels) {
  const std::string small = R"("hidden_size":1536,"num_attention_heads":12,"num_key_value_heads":2,"vocab_size":151936,
    "intermediate_size":8960,"shared_expert_intermediate_size":8960,"moe_intermediate_size":280,)";
  const std::string large = R"("hidden_size":3584,"num_attention_heads":28,"num_key_value_heads":4,"vocab_size":152064,
    "intermediate_size":18944,"shared_expert_intermediate_size":18944,"moe_intermediate_size":592,)";
  const std::string both = R"("model_type":"finer_moe","tie_word_embeddings":false,"torch_dtype":"bfloat16",
    "num_hidden_layers":28,"max_position_embeddings":32768,"rms_norm_eps":1e-6,"rope_theta":1000000.0,
    "G_I":32,"R_I":1,"G_O":2,"R_O":2,"num_experts":128,"num_experts_per_tok":2})";
  struct Case {
    const std::string& shape;
    uint64_t expert, memory, cache, slots, copied;
  };
  const TemporaryDirectory folder;
  for (const Case& c : {Case{small, 2'150'400, 8'000'000'000, 4'000'000'000, 1860, 57'926'400},
                        Case{large, 10'608'640, 24'000'000'000, 8'000'000'000, 754, 469'100'800}}) {
    SCOPED_TRACE(c.memory);
    std::ofstream(folder / "config.json") << "{" << c.shape << both;
    const finermoe_plan plan = plan_with_cache(c.memory, c.cache, folder.path);
    EXPECT_EQ(plan.device_layers, 28u);
    EXPECT_EQ(plan.device_moe_layers, 0u);
    EXPECT_EQ(plan.expert_cache_slots, c.slots);
    EXPECT_EQ(plan.expert_cache, c.slots * c.expert);
    EXPECT_EQ(plan.fetched_bytes_per_token, c.copied);
    EXPECT_EQ(plan.device_bytes_per_token, plan.bytes_per_token);
    const finermoe_plan without = plan_with_cache(c.memory, 0, folder.path);
    EXPECT_GT(without.device_moe_layers, 0u);
    const uint64_t read_by_cpu = without.bytes_per_token - without.device_bytes_per_token;
    EXPECT_EQ(read_by_cpu, (28 - without.device_moe_layers) * 2 * c.expert);
    EXPECT_NEAR(static_cast<double>(plan.fetched_bytes_per_token) / static_cast<double>(read_by_cpu), 1, 0.05);
  }
}

TEST(Placement, APlanWithACacheThatCannotBeIsRefused) {
  finermoe_plan plan{};
  const uint64_t memory = plans(the_device)[3].device_total;
  const Failure too_small = try_plan(plan, the_device, memory, 2 * kExpert - 1, model_path);
  EXPECT_EQ(too_small.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(too_small.expected, "at least 138240 bytes");
  EXPECT_EQ(too_small.found, "138239 bytes");
  const Failure in_place = try_plan(plan, "cpu", 0, 2 * kExpert, model_path);
  EXPECT_EQ(in_place.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(in_place.expected, "no expert cache");
  EXPECT_NE(in_place.message.find("cpu uses weights where they are"), std::string::npos) << in_place.message;
  const std::string dense = golden::source_root() + "/tests/data/shapes/dense-tied";
  EXPECT_EQ(plan_with_cache(1, 1, dense).expert_cache, 0u);  // without experts nothing is fetched
}

TEST(Placement, APlanNeedsAMemoryThatIsKnown) {
  EXPECT_EQ(refusal_to_plan("cpu", 1).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(refusal_to_plan("no-such-device:7", 1).code, FINERMOE_ERROR_UNSUPPORTED);
  const finermoe_plan on_cpu = plan_for(nullptr, 0);
  EXPECT_EQ(on_cpu.device_memory, 0u);
  EXPECT_EQ(on_cpu.device_weights, 0u);
  EXPECT_EQ(on_cpu.host_weights, on_cpu.weights_total);
  EXPECT_GT(plan_for(the_device, 0).device_memory, plan_for(the_device, 0).device_total);  // all that it has
}

// NVIDIA's module plans for its devices wherever they are.
TEST(Placement, ADeviceOfAnotherMachine) {
  const char* const cuda = std::getenv("FINERMOE_TEST_CUDA_MODULE");
  if (cuda == nullptr) GTEST_SKIP() << "libfinermoe_cuda was not built: there is no nvcc";
  auto config =
      make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open(model_path.c_str(), out, e); });
  auto options = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  for (const char* name : {"cuda:31", "cuda:GPU-1b4e28ba"}) {
    EXPECT_DONE(finermoe_plan_options_set_device(options.get(), cuda, name, 1'000'000'000, e));
    finermoe_plan plan{};
    plan.struct_size = sizeof plan;
    EXPECT_DONE(finermoe_plan_compute(config.get(), options.get(), &plan, e));
    EXPECT_EQ(plan.device_memory, 1'000'000'000u);
    EXPECT_EQ(plan.device_layers, 4u);
    const auto set = [&](const char* device, uint64_t memory) {
      return failure_of(
          [&](finermoe_error** e) { return finermoe_plan_options_set_device(options.get(), cuda, device, memory, e); });
    };
    EXPECT_EQ(set(name, 0).code, FINERMOE_ERROR_INVALID_ARGUMENT);
    for (const char* no_name : {"cuda", "cuda:", "cuda:x", "cuda:1x", "cuda:0,cuda:1", "gpu:0"}) {
      EXPECT_NE(set(no_name, 1).code, FINERMOE_OK) << no_name;
    }
  }
}

}  // namespace
