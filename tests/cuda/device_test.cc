// The device over the emulated driver: what it leaves of the host's, and what it says when something is wanting.
#include "cuda/cuda_device.h"

#include "../backend/support.h"
#include "emulated_driver.h"

namespace finermoe {
namespace {

class CudaDevice : public testing::Test {
 protected:
  void TearDown() override {
    emulated::settings() = {};
    emulated::forget_faults();
    EXPECT_EQ(0, emulated::n_contexts());
    EXPECT_EQ(0u, emulated::allocated());
    EXPECT_EQ(0u, emulated::n_graphs());
  }
};

Config small_config() {
  const RouterShape router{
      .granularity_inter = 4, .expansion_inter = 1, .granularity_output = 2, .expansion_output = 2, .top_inter = 1};
  return config_of(64, 96, router, 40);
}

TEST_F(CudaDevice, IsDescribedWithoutAContext) {
  const int before = emulated::n_contexts_made();
  emulated::settings().n_devices = 3;
  ASSERT_TRUE(cuda::start_driver(*emulated::driver()).ok());
  auto devices = cuda::list_devices(emulated::driver(), "cuda");
  ASSERT_TRUE(devices.ok());
  ASSERT_EQ(3u, devices->size());
  EXPECT_STREQ("cuda:2", (*devices)[2]->name());
  const DeviceInfo info = (*devices)[2]->info();
  EXPECT_EQ(FINERMOE_DEVICE_GPU, info.kind);
  EXPECT_EQ("emulated, GPU-00000000-0000-0000-0000-000000000002", info.description);
  EXPECT_EQ("CUDA 13.0, compute capability 9.0", info.version);
  EXPECT_EQ(uint64_t{16} << 30, info.memory);
  EXPECT_EQ(before, emulated::n_contexts_made());
}

TEST_F(CudaDevice, LeavesTheCurrentContext) {
  int of_the_host = 0;
  emulated::push_context(&of_the_host);
  {
    auto backend = emulated_cuda();
    EXPECT_EQ(&of_the_host, emulated::current_context());
    const RandomMatrix matrix(DType::bf16, 50, 40, 1);
    Operations on(*backend, small_config(), 4);
    on.begin();
    const DevicePtr<float> x = on.put(random_floats(40, 2)), out = on.put(std::vector<float>(50));
    on->linear(x, on.bind(matrix), 1, false, out);
    EXPECT_EQ(&of_the_host, emulated::current_context());
    EXPECT_EQ(50u, on.get(out, 50).size());
    EXPECT_EQ(&of_the_host, emulated::current_context());
  }
  EXPECT_EQ(&of_the_host, emulated::current_context());
  emulated::pop_context();
}

TEST_F(CudaDevice, TooLittleMemoryIsSaid) {
  emulated::settings().memory = 100'000;
  auto backend = emulated_cuda();
  auto account = no_limit();
  EXPECT_EQ(FINERMOE_ERROR_DEVICE_MEMORY, backend->make_step(small_config(), 64, 64, account).status().code());
  const Status status = backend->allocate(200'000, account, "a test").status();
  EXPECT_EQ(FINERMOE_ERROR_DEVICE_MEMORY, status.code());
  EXPECT_NE(std::string::npos, status.message().find("200000 bytes for a test")) << status.message();
  EXPECT_EQ(0u, account->used());
  EXPECT_TRUE(backend->allocate(50'000, account, "a test").ok());
  // Pinned memory is the host's.
  emulated::settings() = {.pinned_answers = cuda::error_out_of_memory};
  EXPECT_EQ(FINERMOE_ERROR_OUT_OF_MEMORY, backend->make_step(small_config(), 1, 64, account).status().code());
  EXPECT_EQ(0u, account->used());
}

TEST_F(CudaDevice, OldOnesAndLargeHeadsAreRefused) {
  emulated::settings().compute_major = 6;
  EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, emulated_cuda_device()->open({}).status().code());
  emulated::settings().compute_major = 8;
  Config config = small_config();
  config.head_size = 512;
  EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, emulated_cuda()->make_step(config, 1, 64, no_limit()).status().code());
}

// There is little room for the logits of a step of one row: a large vocabulary takes several goes.
TEST_F(CudaDevice, LogitsOfOneRowComeInParts) {
  auto backend = emulated_cuda();
  Config config = small_config();
  config.vocab_size = 100;
  for (const DType dtype : {DType::bf16, DType::q8}) {
    const RandomMatrix head(dtype, 301, 64, 1);
    const std::vector<float> x = random_floats(64, 2);
    Operations on(*backend, config, 1);
    on.begin();
    std::vector<float> out(301);
    on->logits(on.put(x), on.bind(head), 1, out.data());
    ASSERT_TRUE(on->wait().ok());
    expect_close(out.data(), head.times(x.data()), 2e-6);
  }
}

// An error of a kernel is that of the wait after it, and stays: the device is lost.
TEST_F(CudaDevice, AFaultIsThatOfThePass) {
  auto backend = emulated_cuda();
  {
    Operations on(*backend, small_config(), 4);
    on.begin();
    const DevicePtr<float> x = on.put(random_floats(64, 2));
    const WeightView nowhere{DevicePtr<const std::byte>::at(4096), DType::bf16, 32, 64};
    on->linear(x, nowhere, 1, false, x);
    const Status status = on->wait();
    EXPECT_EQ(FINERMOE_ERROR_DEVICE_LOST, status.code());
    EXPECT_NE(std::string::npos, status.message().find("outside of every allocation")) << status.message();
    EXPECT_FALSE(on->wait().ok());
    EXPECT_FALSE(backend->allocate(64, no_limit(), "a test").ok());
  }
  emulated::forget_faults();
  EXPECT_TRUE(backend->allocate(64, no_limit(), "a test").ok());
}

// Experts of random weights on a device, and a layer of them on some rows.
class SmallLayer {
 public:
  SmallLayer(Operations& on, const Config& config, DType dtype) : on_(on), shape_(config.router) {
    router_ = on.bind(RandomMatrix(DType::f32, shape_.n_experts(), 64, 3));
    for (uint32_t e = 0; e < shape_.n_experts(); e++) {
      experts_.push_back({on.bind(RandomMatrix(dtype, 40, 64, 5 * e, 0.2f)),
                          on.bind(RandomMatrix(dtype, 40, 64, 5 * e + 1, 0.2f)),
                          on.bind(RandomMatrix(dtype, 32, 40, 5 * e + 2, 0.2f))});
      all_.push_back(e);
    }
  }
  // Enqueued; the result is on the device.
  DevicePtr<float> run(size_t n) {
    const DevicePtr<float> x = on_.put(random_floats(n * 64, 9)), out = on_.put(std::vector<float>(n * 64));
    const Route& route = on_->activations().route;
    on_->route(x, {router_, {}}, shape_, n, route);
    on_->moe_ffn(x, experts_, all_, shape_, route, n, false, out);
    return out;
  }

 private:
  Operations& on_;
  const RouterShape shape_;
  WeightView router_;
  std::vector<FfnWeights> experts_;
  std::vector<uint32_t> all_;
};

// What a failed pass has not brought to the device, the next one brings.
TEST_F(CudaDevice, APassAfterAFailedOneHasItsExperts) {
  auto backend = emulated_cuda();
  const Config config = small_config();
  Operations on(*backend, config, 4);
  SmallLayer layer(on, config, DType::bf16);
  on.begin();
  const DevicePtr<float> x = on.put(random_floats(64, 2));
  on->linear(x, {DevicePtr<const std::byte>::at(4096), DType::bf16, 32, 64}, 1, false, x);
  layer.run(2);
  EXPECT_EQ(FINERMOE_ERROR_DEVICE_LOST, on->wait().code());
  emulated::forget_faults();
  on.begin();
  const std::vector<float> found = on.get(layer.run(2), 2 * 64);

  Operations others(*backend, config, 4);
  SmallLayer same(others, config, DType::bf16);
  others.begin();
  EXPECT_EQ(others.get(same.run(2), 2 * 64), found);
}

// The same bits in whatever order threads run.
TEST_F(CudaDevice, TheOrderOfThreadsMakesNoDifference) {
  auto backend = emulated_cuda();
  const Config config = small_config();
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32, DType::q8, DType::q4}) {
    for (const size_t n : {3, 20}) {
      std::vector<std::vector<float>> found;
      for (const emulated::Order order :
           {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
        emulated::settings().order = order;
        Operations on(*backend, config, n);
        on.begin();
        SmallLayer layer(on, config, dtype);
        found.push_back(on.get(layer.run(n), n * 64));
      }
      EXPECT_EQ(found[0], found[1]) << name_of(dtype);
      EXPECT_EQ(found[0], found[2]) << name_of(dtype);
    }
  }
}

}  // namespace
}  // namespace finermoe
