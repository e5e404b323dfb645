#include "cuda/driver.h"

#include "base/shared_library.h"
#include "cuda/blas.h"

namespace finermoe::cuda {
namespace {

std::string version_text(int version) { return format_text(version / 1000, ".", version % 1000 / 10); }

Status without_driver(const std::string& library, std::string_view why) {
  return Status(FINERMOE_ERROR_NO_DRIVER, format_text("there is no NVIDIA driver: ", why), library, "no such driver");
}

// The names are those that cuda.h gives the newest form of each function. Returns the first that is missing, or null.
const char* find_all(Driver& driver, const SharedLibrary& library) {
  FunctionsOf functions(library);
  functions.fill(driver.driver_version, "cuDriverGetVersion");
  functions.fill(driver.init, "cuInit");
  functions.fill(driver.error_name, "cuGetErrorName");
  functions.fill(driver.device_count, "cuDeviceGetCount");
  functions.fill(driver.device_get, "cuDeviceGet");
  functions.fill(driver.device_name, "cuDeviceGetName");
  functions.fill(driver.device_uuid, "cuDeviceGetUuid_v2");
  functions.fill(driver.device_memory, "cuDeviceTotalMem_v2");
  functions.fill(driver.device_attribute, "cuDeviceGetAttribute");
  functions.fill(driver.retain_context, "cuDevicePrimaryCtxRetain");
  functions.fill(driver.release_context, "cuDevicePrimaryCtxRelease_v2");
  functions.fill(driver.push_context, "cuCtxPushCurrent_v2");
  functions.fill(driver.pop_context, "cuCtxPopCurrent_v2");
  functions.fill(driver.allocate, "cuMemAlloc_v2");
  functions.fill(driver.free, "cuMemFree_v2");
  functions.fill(driver.allocate_host, "cuMemHostAlloc");
  functions.fill(driver.free_host, "cuMemFreeHost");
  functions.fill(driver.create_stream, "cuStreamCreate");
  functions.fill(driver.destroy_stream, "cuStreamDestroy_v2");
  functions.fill(driver.wait_for_stream, "cuStreamSynchronize");
  functions.fill(driver.copy_to_device, "cuMemcpyHtoDAsync_v2");
  functions.fill(driver.copy_to_host, "cuMemcpyDtoHAsync_v2");
  functions.fill(driver.copy_on_device, "cuMemcpyDtoDAsync_v2");
  functions.fill(driver.fill, "cuMemsetD8Async");
  functions.fill(driver.create_event, "cuEventCreate");
  functions.fill(driver.destroy_event, "cuEventDestroy_v2");
  functions.fill(driver.record_event, "cuEventRecord");
  functions.fill(driver.wait_for_event, "cuStreamWaitEvent");
  functions.fill(driver.wait_on_host, "cuEventSynchronize");
  functions.fill(driver.begin_capture, "cuStreamBeginCapture_v2");
  functions.fill(driver.end_capture, "cuStreamEndCapture");
  functions.fill(driver.instantiate_graph, "cuGraphInstantiateWithFlags");
  functions.fill(driver.launch_graph, "cuGraphLaunch");
  functions.fill(driver.destroy_graph, "cuGraphExecDestroy");
  functions.fill(driver.destroy_graph_template, "cuGraphDestroy");
  return functions.missing();
}

// What an error of the driver, or of the runtime that launches kernels, means to the caller. The numbers are those of
// CUresult in cuda.h, which cudaError_t has as well.
int32_t kind_of(Code code) {
  switch (code) {
    case error_out_of_memory:
      return FINERMOE_ERROR_DEVICE_MEMORY;
    case error_not_initialized:  // in a child of fork()
      return FINERMOE_ERROR_STATE;
    case 35:   // the runtime in the module is newer than the driver
    case 36:   // a call that the driver lacks
    case 222:  // PTX of a newer toolkit
      return FINERMOE_ERROR_DRIVER_TOO_OLD;
    case 46:  // another process has it for itself
    case error_no_device:
    case 101:  // an index without a device
      return FINERMOE_ERROR_NO_DEVICE;
    case 209:  // the module has no code for the device
      return FINERMOE_ERROR_UNSUPPORTED;
    case 214:  // memory that ECC cannot correct
    case 220:  // a link that it cannot
    case 226:  // an error of the hardware that ends all work of the process
    case 700:  // an illegal address
    case 702:  // a kernel that took too long
    case 709:  // a context that was destroyed
    case 710:  // an assertion
    case 714:  // and other faults of kernels: of the stack, an instruction, an alignment, …
    case 715:
    case 716:
    case 717:
    case 718:
    case error_launch_failed:
    case 721:  // memory of tensors that a kernel kept
    case 999:  // what has no name: a device that is no longer on its bus
      return FINERMOE_ERROR_DEVICE_LOST;
    default:
      return FINERMOE_ERROR_INTERNAL;
  }
}

std::string name_of(const Driver& driver, Code code) {
  const char* name = nullptr;
  if (driver.error_name(code, &name) != success || name == nullptr) name = "an unknown error";
  return format_text(name, " (", code, ")");
}

}  // namespace

Status status_of(const Driver& driver, Code code, std::string_view what) {
  if (code == success) return {};
  const std::string name = name_of(driver, code);
  const int32_t kind = kind_of(code);
  const std::string_view consequence =
      kind == FINERMOE_ERROR_DEVICE_LOST ? "; the device is lost, and this process cannot use it again" : "";
  return Status(kind, format_text("CUDA: ", what, ": ", name, consequence));
}

Status start_driver(const Driver& driver) {
  int version = 0, count = 0;
  // Asked first: an old driver may fail in other ways.
  if (driver.driver_version(&version) == success && version < least_driver_version) {
    return Status(FINERMOE_ERROR_DRIVER_TOO_OLD,
                  format_text("the NVIDIA driver is too old: it supports CUDA ", version_text(version), ", and ",
                              version_text(least_driver_version), " is needed"),
                  version_text(least_driver_version), version_text(version));
  }
  Code code = driver.init(0);
  if (code == success) code = driver.device_count(&count);
  if (code == error_no_device || (code == success && count == 0)) {
    return Status(FINERMOE_ERROR_NO_DEVICE, "the NVIDIA driver finds no device", "a device", "none");
  }
  if (code == success) return {};
  const std::string name = name_of(driver, code);
  return Status(FINERMOE_ERROR_NO_DRIVER, format_text("the NVIDIA driver does not start: ", name),
                "a driver that starts", name);
}

Result<std::shared_ptr<const Driver>> load_driver(const std::string& library) {
  const auto opened = SharedLibrary::open(library);
  if (!opened.ok()) return without_driver(library, opened.status().found());
  auto driver = std::make_shared<Driver>();
  const char* const missing = find_all(*driver, *opened);
  if (missing != nullptr) {
    // A driver that lacks it is older than the version that we need.
    return Status(FINERMOE_ERROR_DRIVER_TOO_OLD, format_text("the NVIDIA driver is too old: it lacks ", missing),
                  version_text(least_driver_version), missing);
  }
  FM_TRY(start_driver(*driver));
  driver->load_blas = load_blas;
  return std::shared_ptr<const Driver>(std::move(driver));
}

}  // namespace finermoe::cuda
