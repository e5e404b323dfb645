// The emulated device as a module, for tests through finermoe.h.
#include "base/build_id.h"
#include "emulated_device.h"

extern "C" __attribute__((visibility("default"))) const finermoe::DeviceModule* finermoe_device_module() {
  static const finermoe::DeviceModule module{
      FINERMOE_BUILD_ID, [] { return finermoe::Result<finermoe::DeviceList>({finermoe::emulated_cuda_device()}); }};
  return &module;
}
