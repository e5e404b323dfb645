// The deferred device as a module, for tests through finermoe.h.
#include "base/build_id.h"
#include "deferred_device.h"

extern "C" __attribute__((visibility("default"))) const finermoe::DeviceModule* finermoe_device_module() {
  static const finermoe::DeviceModule module{
      FINERMOE_BUILD_ID, [] { return finermoe::Result<finermoe::DeviceList>({finermoe::deferred_device()}); },
      [](std::string_view) { return std::shared_ptr<const finermoe::Device>(); }};
  return &module;
}
