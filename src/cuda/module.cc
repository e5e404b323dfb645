// libfinermoe_cuda.so, as a device module.
#include "base/build_id.h"
#include "cuda/cuda_device.h"

namespace {

finermoe::Result<finermoe::DeviceList> devices() {
  FM_ASSIGN(auto driver, finermoe::cuda::load_driver());
  return finermoe::cuda::list_devices(std::move(driver), "cuda");
}

std::shared_ptr<const finermoe::Device> device_to_plan_for(std::string_view name) {
  return finermoe::cuda::device_elsewhere(name, "cuda");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const finermoe::DeviceModule* finermoe_device_module() {
  static const finermoe::DeviceModule module{FINERMOE_BUILD_ID, devices, device_to_plan_for};
  return &module;
}
