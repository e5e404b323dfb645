#include "cuda/driver.h"

#include <dlfcn.h>

namespace finermoe::cuda {
namespace {

std::string version_text(int version) { return format_text(version / 1000, ".", version % 1000 / 10); }

Status without_driver(const std::string& library, std::string_view why) {
  return Status(FINERMOE_ERROR_UNSUPPORTED, format_text("there is no NVIDIA driver: ", why), library, "no such driver");
}

// The names are those that cuda.h gives the newest form of each function.
template <class Find>
const char* find_all(Driver& driver, const Find& find) {
  const char* missing = nullptr;
  const auto fill = [&]<class Function>(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(find(name));
    if (function == nullptr && missing == nullptr) missing = name;
  };
  fill(driver.driver_version, "cuDriverGetVersion");
  fill(driver.init, "cuInit");
  fill(driver.error_name, "cuGetErrorName");
  fill(driver.device_count, "cuDeviceGetCount");
  fill(driver.device_get, "cuDeviceGet");
  fill(driver.device_name, "cuDeviceGetName");
  fill(driver.device_uuid, "cuDeviceGetUuid_v2");
  fill(driver.device_memory, "cuDeviceTotalMem_v2");
  fill(driver.device_attribute, "cuDeviceGetAttribute");
  fill(driver.retain_context, "cuDevicePrimaryCtxRetain");
  fill(driver.release_context, "cuDevicePrimaryCtxRelease_v2");
  fill(driver.push_context, "cuCtxPushCurrent_v2");
  fill(driver.pop_context, "cuCtxPopCurrent_v2");
  fill(driver.allocate, "cuMemAlloc_v2");
  fill(driver.free, "cuMemFree_v2");
  fill(driver.allocate_host, "cuMemHostAlloc");
  fill(driver.free_host, "cuMemFreeHost");
  fill(driver.create_stream, "cuStreamCreate");
  fill(driver.destroy_stream, "cuStreamDestroy_v2");
  fill(driver.wait_for_stream, "cuStreamSynchronize");
  fill(driver.copy_to_device, "cuMemcpyHtoDAsync_v2");
  fill(driver.copy_to_host, "cuMemcpyDtoHAsync_v2");
  fill(driver.copy_on_device, "cuMemcpyDtoDAsync_v2");
  fill(driver.fill, "cuMemsetD8Async");
  return missing;
}

}  // namespace

Status status_of(const Driver& driver, Code code, std::string_view what) {
  if (code == success) return {};
  const char* name = nullptr;
  if (driver.error_name(code, &name) != success || name == nullptr) name = "an unknown error";
  return Status(code == error_out_of_memory ? FINERMOE_ERROR_OUT_OF_MEMORY : FINERMOE_ERROR_INTERNAL,
                format_text("CUDA: ", what, ": ", name, " (", code, ")"));
}

Status start_driver(const Driver& driver) {
  int version = 0, count = 0;
  // Asked first: an old driver may fail in other ways.
  if (driver.driver_version(&version) == success && version < least_driver_version) {
    return Status(FINERMOE_ERROR_UNSUPPORTED,
                  format_text("the NVIDIA driver is too old: it supports CUDA ", version_text(version), ", and ",
                              version_text(least_driver_version), " is needed"),
                  version_text(least_driver_version), version_text(version));
  }
  Code code = driver.init(0);
  if (code == success) code = driver.device_count(&count);
  if (code == error_no_device || (code == success && count == 0)) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, "the NVIDIA driver finds no device", "a device", "none");
  }
  if (code == success) return {};
  const Status failed = status_of(driver, code, "the driver cannot be used");
  return Status(FINERMOE_ERROR_UNSUPPORTED, failed.message(), "a driver that starts", format_text(code));
}

Result<std::shared_ptr<const Driver>> load_driver(const std::string& library) {
  void* const opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (opened == nullptr) {
    const char* const why = dlerror();
    return without_driver(library, why == nullptr ? "it cannot be loaded" : why);
  }
  auto driver = std::make_shared<Driver>();
  const char* const missing = find_all(*driver, [&](const char* name) { return dlsym(opened, name); });
  dlclose(opened);  // it stays, as it was opened to
  if (missing != nullptr) {
    // Before that function there was none of the versions that we need.
    return Status(FINERMOE_ERROR_UNSUPPORTED, format_text("the NVIDIA driver is too old: it lacks ", missing),
                  version_text(least_driver_version), missing);
  }
  FM_TRY(start_driver(*driver));
  return std::shared_ptr<const Driver>(std::move(driver));
}

}  // namespace finermoe::cuda
