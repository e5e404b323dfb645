// Devices: what is there, how one is chosen, and what is said of a module that is none.
#include <fstream>

#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/temporary_directory.h"

namespace {

const char* const module = std::getenv("FINERMOE_TEST_DEVICE_MODULE");

size_t count(const char* of_module) {
  size_t n = 0;
  EXPECT_DONE(finermoe_device_count(of_module, &n, e));
  return n;
}
finermoe_device_info info_of(const char* of_module, size_t index) {
  finermoe_device_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_device_get_info(of_module, index, &info, e));
  return info;
}
Failure failure_with(const char* device, const char* path) {
  auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), device, e));
  EXPECT_DONE(finermoe_runtime_options_set_device_module(options.get(), path, e));
  finermoe_runtime* none = nullptr;
  const Failure failure =
      failure_of([&](finermoe_error** e) { return finermoe_runtime_create(options.get(), &none, e); });
  EXPECT_EQ(none, nullptr);
  return failure;
}

TEST(Devices, TheCpuIsAlwaysThere) {
  ASSERT_GE(count(nullptr), 1u);
  const finermoe_device_info cpu = info_of(nullptr, 0);
  EXPECT_EQ(cpu.kind, FINERMOE_DEVICE_CPU);
  EXPECT_STREQ(cpu.name, "cpu");
  EXPECT_STRNE(cpu.description, "");
  finermoe_system_info system{};
  system.struct_size = sizeof system;
  EXPECT_DONE(finermoe_system_get_info(&system, e));
  EXPECT_STREQ(cpu.version, system.kernels);
  EXPECT_GT(cpu.memory_available, 0u);
  EXPECT_GE(cpu.memory, cpu.memory_available);
  EXPECT_EQ(cpu.weight_dtypes, 0x1fu);
  EXPECT_EQ(cpu.kv_dtypes, 0xfu);
  EXPECT_EQ(cpu.copies_weights, 0);
  finermoe_device_info out{};
  out.struct_size = sizeof out;
  EXPECT_EQ(failure_of([&](finermoe_error** e) { return finermoe_device_get_info(nullptr, 99, &out, e); }).code,
            FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST(Devices, AModuleAddsItsOwn) {
  ASSERT_NE(module, nullptr);
  ASSERT_EQ(count(module), 2u);
  const finermoe_device_info added = info_of(module, 1);
  EXPECT_STREQ(added.name, test_device());
  EXPECT_EQ(added.kind, is_all_on_a_gpu() ? FINERMOE_DEVICE_GPU : FINERMOE_DEVICE_OTHER);
  EXPECT_EQ(added.copies_weights, 1);

  auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_device_module(options.get(), module, e));
  const auto device_of = [&] {
    auto runtime = create_runtime(options);
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return std::string(info.device);
  };
  EXPECT_EQ(device_of(), "cpu");  // unless it is asked for
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), test_device(), e));
  EXPECT_EQ(device_of(), test_device());
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), nullptr, e));
  EXPECT_EQ(device_of(), "cpu");
}

// Bytes to be locked in memory, of all weights, when some or none of them are used in the mapping.
uint64_t locked_with(const char* device, const char* expert_device) {
  auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_device_module(options.get(), module, e));
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), device, e));
  const auto runtime = create_runtime(options);
  auto how = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  EXPECT_DONE(finermoe_model_options_set_runtime(how.get(), runtime.get(), e));
  EXPECT_DONE(finermoe_model_options_set_expert_device(how.get(), expert_device, e));
  EXPECT_DONE(finermoe_model_options_set_lock(how.get(), FINERMOE_LOCK_ALL, e));
  uint64_t locked = 0;
  const auto note = [](void* total_locked, const char* phase, uint64_t, uint64_t total) {
    if (std::string_view(phase) == "lock") *static_cast<uint64_t*>(total_locked) = total;
    return 0;
  };
  EXPECT_DONE(finermoe_model_options_set_progress(how.get(), note, &locked, e));
  const std::string path = golden::trained("tiny-wordnet-finermoe");
  finermoe_model* model = nullptr;  // opened, or refused by the system for what it was to lock
  static_cast<void>(finermoe_model_open(path.c_str(), how.get(), &model, nullptr));
  finermoe_model_free(model);
  return locked;
}

TEST(Devices, WeightsThatAreCopiedAreNotLocked) {
  const uint64_t all = locked_with("cpu", nullptr), experts = locked_with(test_device(), "cpu");
  EXPECT_EQ(locked_with(test_device(), nullptr), 0u);
  EXPECT_GT(experts, 0u);
  EXPECT_LT(experts, all);
}

TEST(Devices, WhatIsNotThereIsNamed) {
  const Failure unknown = failure_with("gpu:7", nullptr);
  EXPECT_EQ(unknown.code, FINERMOE_ERROR_UNSUPPORTED);
  EXPECT_NE(unknown.message.find("gpu:7"), std::string::npos) << unknown.message;
  EXPECT_EQ(unknown.expected, "cpu");
  EXPECT_EQ(failure_with("deferred", nullptr).code, FINERMOE_ERROR_UNSUPPORTED);
  const Failure several = failure_with("cuda:0,cuda:1,cpu", nullptr);
  EXPECT_EQ(several.code, FINERMOE_ERROR_UNSUPPORTED);
  EXPECT_NE(several.message.find("3 are named: \"cuda:0\", \"cuda:1\", \"cpu\""), std::string::npos) << several.message;

  auto runtime = open_runtime(1);
  auto options = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  EXPECT_DONE(finermoe_model_options_set_runtime(options.get(), runtime.get(), e));
  EXPECT_DONE(finermoe_model_options_set_expert_device(options.get(), "gpu:7", e));
  const std::string path = golden::trained("tiny-wordnet-finermoe");
  finermoe_model* none = nullptr;
  EXPECT_EQ(
      failure_of([&](finermoe_error** e) { return finermoe_model_open(path.c_str(), options.get(), &none, e); }).code,
      FINERMOE_ERROR_UNSUPPORTED);
}

// NVIDIA's: as many devices as there are, or the reason why there is none, and the CPU is there as ever.
TEST(Devices, TheCudaModuleSaysWhatIsThere) {
  const char* const cuda = std::getenv("FINERMOE_TEST_CUDA_MODULE");
  if (cuda == nullptr) GTEST_SKIP() << "libfinermoe_cuda was not built: there is no nvcc";
  size_t n = 0;
  const Failure failure = failure_of([&](finermoe_error** e) { return finermoe_device_count(cuda, &n, e); });
  if (failure.code == FINERMOE_OK) {
    ASSERT_GT(n, 1u);
    EXPECT_STREQ(info_of(cuda, 1).name, "cuda:0");
  } else {
    EXPECT_TRUE(failure.code == FINERMOE_ERROR_NO_DRIVER || failure.code == FINERMOE_ERROR_DRIVER_TOO_OLD ||
                failure.code == FINERMOE_ERROR_NO_DEVICE)
        << failure.code;
    EXPECT_NE(failure.message.find("NVIDIA driver"), std::string::npos) << failure.message;
    EXPECT_EQ(failure_with("cuda:0", cuda).code, failure.code);
  }
  EXPECT_EQ(info_of(nullptr, 0).kind, FINERMOE_DEVICE_CPU);
}

TEST(Devices, WhatIsNoModuleIsRefused) {
  const TemporaryDirectory directory;
  const std::string text = directory.path + "/text.so";
  std::ofstream(text) << "not a library";
  EXPECT_EQ(failure_with("cpu", (directory.path + "/none.so").c_str()).code, FINERMOE_ERROR_FILE_NOT_FOUND);
  EXPECT_EQ(failure_with("cpu", text.c_str()).code, FINERMOE_ERROR_FILE_UNREADABLE);
  EXPECT_EQ(failure_with("cpu", directory.path.c_str()).code, FINERMOE_ERROR_FILE_UNREADABLE);
  // libfinermoe itself is a library, and no module; a module of another build is refused before it is used.
  const Failure other = failure_with("cpu", std::getenv("FINERMOE_TEST_OTHER_LIBRARY"));
  EXPECT_EQ(other.code, FINERMOE_ERROR_UNSUPPORTED);
  EXPECT_NE(other.message.find("is not a device module"), std::string::npos) << other.message;
  const Failure foreign = failure_with("cpu", std::getenv("FINERMOE_TEST_FOREIGN_MODULE"));
  EXPECT_EQ(foreign.code, FINERMOE_ERROR_UNSUPPORTED);
  EXPECT_NE(foreign.message.find("a different build of libfinermoe"), std::string::npos) << foreign.message;
  EXPECT_EQ(foreign.found, "another build");
}

}  // namespace
