// Emulated devices as a module, for tests through finermoe.h.
#include "base/build_id.h"
#include "cuda/cuda_device.h"
#include "emulated_driver.h"

namespace {

finermoe::Result<finermoe::DeviceList> devices() {
  FM_TRY(finermoe::cuda::start_driver(*emulated::driver()));
  return finermoe::cuda::list_devices(emulated::driver(), "cuda-emulated");
}

std::shared_ptr<const finermoe::Device> device_to_plan_for(std::string_view name) {
  return finermoe::cuda::device_elsewhere(name, "cuda-emulated");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const finermoe::DeviceModule* finermoe_device_module() {
  static const finermoe::DeviceModule module{FINERMOE_BUILD_ID, devices, device_to_plan_for};
  return &module;
}

// For a test that finds them with dlsym.
extern "C" __attribute__((visibility("default"))) emulated::Settings* emulated_settings() {
  return &emulated::settings();
}
extern "C" __attribute__((visibility("default"))) uint64_t emulated_host_waits() { return emulated::n_host_waits(); }
extern "C" __attribute__((visibility("default"))) uint64_t emulated_allocated() { return emulated::allocated(); }
extern "C" __attribute__((visibility("default"))) void emulated_lose_device() { emulated::lose_device(); }
extern "C" __attribute__((visibility("default"))) void emulated_forget_faults() { emulated::forget_faults(); }
