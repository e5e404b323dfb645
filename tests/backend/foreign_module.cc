// A device module of another build: all of it but the entry is wrong.
#include "backend/device.h"

extern "C" __attribute__((visibility("default"))) const finermoe::DeviceModule* finermoe_device_module() {
  static const finermoe::DeviceModule module{"another build", nullptr, nullptr};
  return &module;
}
