// A device that is not there, or has no memory, or is lost, through finermoe.h: each has a code of its own, and the CPU
// and whatever is on it work as ever. The device is the emulated GPU, told to fail.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cuda/emulated/emulated_driver.h"
#include "../support/golden.h"
#include "../support/handles.h"

namespace {

const char* const module = std::getenv("FINERMOE_TEST_DEVICE_MODULE");
const std::string model_path = golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2";
const std::vector<int32_t> prompt{1, 2, 3, 4};

// What the module offers to tests.
template <class Function>
Function* of_module(const char* name) {
  void* const library = dlopen(module, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  EXPECT_NE(library, nullptr) << dlerror();
  auto* const found = reinterpret_cast<Function*>(dlsym(library, name));
  EXPECT_NE(found, nullptr) << name;
  dlclose(library);
  return found;
}
emulated::Settings& settings() { return *of_module<emulated::Settings*()>("emulated_settings")(); }
void lose_device() { of_module<void()>("emulated_lose_device")(); }

RuntimeOptions options_of(const char* device) {
  auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_threads(options.get(), 1, e));
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), device, e));
  if (device != nullptr) EXPECT_DONE(finermoe_runtime_options_set_device_module(options.get(), module, e));
  return options;
}
RuntimeHandle runtime_on(const char* device) { return create_runtime(options_of(device)); }
Failure failure_of_device(const char* device) {
  auto options = options_of(device);
  finermoe_runtime* none = nullptr;
  return failure_of([&](finermoe_error** e) { return finermoe_runtime_create(options.get(), &none, e); });
}
Failure failure_to_open(finermoe_runtime* runtime) {
  auto options = model_options(runtime);
  finermoe_model* none = nullptr;
  return failure_of(
      [&](finermoe_error** e) { return finermoe_model_open(model_path.c_str(), options.get(), &none, e); });
}

Failure failure_to_append(finermoe_session* session) {
  return failure_of([&](finermoe_error** e) {
    return finermoe_session_append(session, prompt.data(), prompt.size(), FINERMOE_LOGITS_LAST, nullptr, e);
  });
}
std::vector<float> logits_of(finermoe_model* model) {
  auto session = open_session(model, 64);
  EXPECT_EQ(failure_to_append(session.get()).message, "");
  return session_logits(session.get(), 0);
}

class DeviceErrors : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(module, nullptr);
    on_cpu_ = runtime_on(nullptr);
    model_ = open_model(model_path, on_cpu_.get());
    before_ = logits_of(model_.get());
    ASSERT_FALSE(before_.empty());
  }
  void TearDown() override {
    settings() = {};
    of_module<void()>("emulated_forget_faults")();
  }
  // A model that was on the CPU before, and one that is opened now, on a runtime of now.
  void expect_cpu() {
    EXPECT_EQ(logits_of(model_.get()), before_);
    auto runtime = runtime_on(nullptr);
    EXPECT_EQ(logits_of(open_model(model_path, runtime.get()).get()), before_);
  }
  RuntimeHandle on_cpu_;
  ModelHandle model_;
  std::vector<float> before_;
};

TEST_F(DeviceErrors, WhatIsWantingOfADriverHasACode) {
  struct Case {
    emulated::Settings settings;
    int32_t code;
    const char* message;
  };
  for (const Case& wanting : {Case{{.driver_version = 12040}, FINERMOE_ERROR_DRIVER_TOO_OLD, "supports CUDA 12.4"},
                              Case{{.init_answers = 999}, FINERMOE_ERROR_NO_DRIVER, "does not start"},
                              Case{{.n_devices = 0}, FINERMOE_ERROR_NO_DEVICE, "finds no device"}}) {
    settings() = wanting.settings;
    const Failure failure = failure_of_device("cuda-emulated:0");
    EXPECT_EQ(failure.code, wanting.code);
    EXPECT_NE(failure.message.find(wanting.message), std::string::npos) << failure.message;
    size_t n = 77;
    EXPECT_EQ(failure_of([&](finermoe_error** e) { return finermoe_device_count(module, &n, e); }).code, wanting.code);
    EXPECT_EQ(n, 77u);
    expect_cpu();
    settings() = {};
    EXPECT_NE(runtime_on("cuda-emulated:0"), nullptr);  // the next call finds what has come meanwhile
  }
}

TEST_F(DeviceErrors, TooLittleMemory) {
  settings().memory = 10'000;
  auto runtime = runtime_on("cuda-emulated:0");
  const Failure weights = failure_to_open(runtime.get());
  EXPECT_EQ(weights.code, FINERMOE_ERROR_DEVICE_MEMORY);
  EXPECT_NE(weights.message.find("the weights on the device"), std::string::npos) << weights.message;
  expect_cpu();

  settings() = {};
  auto model = open_model(model_path, runtime.get());
  settings().memory = 1;  // no more than what the weights have already
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), 512, e));
  finermoe_session* session = nullptr;
  Failure cache =
      failure_of([&](finermoe_error** e) { return finermoe_session_create(model.get(), options.get(), &session, e); });
  const SessionHandle created(session);
  if (cache.code == FINERMOE_OK) cache = failure_to_append(session);
  EXPECT_EQ(cache.code, FINERMOE_ERROR_DEVICE_MEMORY) << cache.message;
  expect_cpu();
  settings() = {};
  EXPECT_EQ(logits_of(model.get()).size(), before_.size());
}

TEST_F(DeviceErrors, ADeviceThatIsLost) {
  auto runtime = runtime_on("cuda-emulated:0");
  auto model = open_model(model_path, runtime.get());
  auto session = open_session(model.get(), 64);
  EXPECT_EQ(failure_to_append(session.get()).code, FINERMOE_OK);
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  auto of_batch = open_session(model.get(), 64);
  auto options = generation_options(model.get());
  auto generation = generate(of_batch.get(), options.get(), prompt);
  EXPECT_DONE(finermoe_batch_add(batch.get(), generation.get(), e));

  lose_device();
  const Failure failure = failure_to_append(session.get());
  EXPECT_EQ(failure.code, FINERMOE_ERROR_DEVICE_LOST);
  EXPECT_NE(failure.message.find("cannot use it again"), std::string::npos) << failure.message;
  EXPECT_EQ(failure_to_append(session.get()).code, FINERMOE_ERROR_DEVICE_LOST);  // and stays
  size_t n_active = 0;
  EXPECT_EQ(
      failure_of([&](finermoe_error** e) { return finermoe_batch_step(batch.get(), nullptr, &n_active, e); }).code,
      FINERMOE_ERROR_DEVICE_LOST);
  EXPECT_EQ(failure_to_open(runtime.get()).code, FINERMOE_ERROR_DEVICE_LOST);
  expect_cpu();
  model.reset();  // everything on it can be freed
  session.reset();
  expect_cpu();
}

TEST_F(DeviceErrors, OneOfSeveralByIndexOrUuid) {
  settings().n_devices = 3;  // UUIDs differ in the last byte
  size_t n = 0;
  EXPECT_DONE(finermoe_device_count(module, &n, e));
  EXPECT_EQ(n, 4u);
  const auto name_of = [](const char* device) {
    auto runtime = runtime_on(device);
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return std::string(info.device);
  };
  EXPECT_EQ(name_of("cuda-emulated:2"), "cuda-emulated:2");
  EXPECT_EQ(name_of("cuda-emulated:GPU-00000000-0000-0000-0000-000000000001"), "cuda-emulated:1");
  const Failure beginning = failure_of_device("cuda-emulated:GPU-00000000");
  EXPECT_EQ(beginning.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(beginning.found, "cuda-emulated:0, cuda-emulated:1, cuda-emulated:2");
  const Failure beyond = failure_of_device("cuda-emulated:3");
  EXPECT_EQ(beyond.code, FINERMOE_ERROR_NO_DEVICE);
  EXPECT_EQ(beyond.expected, "cpu, cuda-emulated:0, cuda-emulated:1, cuda-emulated:2");
  EXPECT_EQ(failure_of_device("abacus:0").code, FINERMOE_ERROR_UNSUPPORTED);
  const Failure two = failure_of_device("cuda-emulated:0,cuda-emulated:1");
  EXPECT_EQ(two.code, FINERMOE_ERROR_UNSUPPORTED);
  EXPECT_NE(two.message.find("2 are named: \"cuda-emulated:0\", \"cuda-emulated:1\""), std::string::npos)
      << two.message;
}

// Opens a model, with a cache of so many bytes for its experts or all of them on the device, and computes a prompt and
// some tokens. What failed first, if anything did; else their logits.
Failure compute(uint64_t expert_cache, std::vector<float>& logits) {
  const auto device = options_of("cuda-emulated:0");
  finermoe_runtime* runtime = nullptr;
  Failure failure = failure_of([&](finermoe_error** e) { return finermoe_runtime_create(device.get(), &runtime, e); });
  const RuntimeHandle own_runtime(runtime);
  if (failure.code != FINERMOE_OK) return failure;
  const auto options = model_options(runtime);
  EXPECT_DONE(finermoe_model_options_set_expert_cache(options.get(), expert_cache, e));
  finermoe_model* model = nullptr;
  failure =
      failure_of([&](finermoe_error** e) { return finermoe_model_open(model_path.c_str(), options.get(), &model, e); });
  const ModelHandle own_model(model);
  if (failure.code != FINERMOE_OK) return failure;
  finermoe_session* session = nullptr;
  failure = failure_of([&](finermoe_error** e) { return finermoe_session_create(model, nullptr, &session, e); });
  const SessionHandle own_session(session);
  if (failure.code == FINERMOE_OK) failure = failure_to_append(session);
  for (int32_t id = 5; id < 9 && failure.code == FINERMOE_OK; id++) {
    failure = failure_of(
        [&](finermoe_error** e) { return finermoe_session_append(session, &id, 1, FINERMOE_LOGITS_LAST, nullptr, e); });
  }
  if (failure.code == FINERMOE_OK) logits = session_logits(session, 0);
  return failure;
}

// What faults_test.cc does with calls of the system. That a graph cannot be made, for one, is no failure.
TEST_F(DeviceErrors, AnyCallOfTheDriverMayFail) {
  auto* const allocated = of_module<uint64_t()>("emulated_allocated");
  for (const uint64_t expert_cache : {0, 40'000}) {
    constexpr uint64_t all = 1 << 30;
    std::vector<float> expected;
    settings().calls_until_failure = all;
    ASSERT_EQ(compute(expert_cache, expected).message, "");
    const uint64_t n_calls = all - settings().calls_until_failure;
    size_t n_failures = 0;
    for (uint64_t n = 1; n <= n_calls; n += n < 400 ? 1 : 7) {
      SCOPED_TRACE(std::to_string(n) + " of " + std::to_string(n_calls));
      settings().calls_until_failure = n;
      std::vector<float> logits;
      const Failure failure = compute(expert_cache, logits);
      settings().calls_until_failure = 0;
      if (failure.code == FINERMOE_OK) {
        EXPECT_EQ(logits, expected);
      } else {
        n_failures++;
        EXPECT_TRUE(failure.code == FINERMOE_ERROR_DEVICE_MEMORY || failure.code == FINERMOE_ERROR_OUT_OF_MEMORY)
            << failure.message;
      }
      EXPECT_EQ(allocated(), 0u);
      if (HasFailure()) return;
    }
    std::vector<float> logits;
    EXPECT_EQ(compute(expert_cache, logits).message, "");
    EXPECT_EQ(logits, expected);
    EXPECT_GT(n_failures, 100u);
  }
}

// Two devices at once: one for the routed experts.
TEST_F(DeviceErrors, ExpertsOnASecondDevice) {
  settings().n_devices = 2;
  auto runtime = runtime_on("cuda-emulated:0");
  auto options = model_options(runtime.get());
  EXPECT_DONE(finermoe_model_options_set_expert_device(options.get(), "cuda-emulated:1", e));
  auto model = make<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(model_path.c_str(), options.get(), out, e); });
  const std::vector<float> logits = logits_of(model.get());
  ASSERT_EQ(logits.size(), before_.size());
  for (size_t i = 0; i < logits.size(); i++) ASSERT_NEAR(logits[i], before_[i], 1e-4) << i;
  EXPECT_DONE(finermoe_model_options_set_expert_device(options.get(), "cuda-emulated:2", e));
  finermoe_model* none = nullptr;
  EXPECT_EQ(failure_of([&](finermoe_error** e) {
              return finermoe_model_open(model_path.c_str(), options.get(), &none, e);
            }).code,
            FINERMOE_ERROR_NO_DEVICE);
}

// NVIDIA's driver does not work in a child of fork(); the emulated one ends a child that calls it. What the child
// inherited it can free, in any order, and the CPU it can use.
TEST_F(DeviceErrors, AChildOfForkHasTheCpuAlone) {
  auto runtime = runtime_on("cuda-emulated:0");
  auto model = open_model(model_path, runtime.get());
  auto session = open_session(model.get(), 64);
  EXPECT_EQ(failure_to_append(session.get()).code, FINERMOE_OK);
  for (const bool session_first : {true, false}) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      EXPECT_EQ(failure_to_append(session.get()).code, FINERMOE_ERROR_STATE);
      if (session_first) session.reset();
      runtime.reset();
      model.reset();
      session.reset();
      EXPECT_EQ(failure_of_device("cuda-emulated:0").code, FINERMOE_ERROR_NO_DRIVER);
      EXPECT_EQ(logits_of(open_model(model_path, runtime_on(nullptr).get()).get()), before_);
      _exit(HasFailure() ? 1 : 0);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(failure_to_append(session.get()).code, FINERMOE_OK);  // the parent goes on
}

}  // namespace
