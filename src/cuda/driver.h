// The functions of NVIDIA's driver that we call, as a table: filled from libcuda.so.1 when the module's devices are
// listed, or by the tests with their own. Building this needs nothing from CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace finermoe::cuda {

struct Blas;

// Handles and codes as the driver has them: CUresult, CUdevice, CUcontext, CUstream, CUevent, CUgraph, CUgraphExec,
// CUdeviceptr.
using Code = int;
using DeviceHandle = int;
using ContextHandle = void*;
using StreamHandle = void*;
using EventHandle = void*;
using GraphTemplateHandle = void*;
using GraphHandle = void*;  // ready to be launched
using Address = unsigned long long;

struct Uuid {
  unsigned char bytes[16];
};

struct Driver {
  Code (*driver_version)(int* version) = nullptr;  // 13000: CUDA 13.0; before init, too
  Code (*init)(unsigned flags) = nullptr;
  Code (*error_name)(Code code, const char** name) = nullptr;

  // Without a context
  Code (*device_count)(int* count) = nullptr;
  Code (*device_get)(DeviceHandle* device, int index) = nullptr;
  Code (*device_name)(char* name, int size, DeviceHandle device) = nullptr;
  Code (*device_uuid)(Uuid* uuid, DeviceHandle device) = nullptr;
  Code (*device_memory)(size_t* bytes, DeviceHandle device) = nullptr;
  Code (*device_attribute)(int* value, int attribute, DeviceHandle device) = nullptr;

  Code (*retain_context)(ContextHandle* context, DeviceHandle device) = nullptr;
  Code (*release_context)(DeviceHandle device) = nullptr;
  Code (*push_context)(ContextHandle context) = nullptr;
  Code (*pop_context)(ContextHandle* context) = nullptr;

  // In the current context
  Code (*allocate)(Address* address, size_t bytes) = nullptr;
  Code (*free)(Address address) = nullptr;
  Code (*allocate_host)(void** address, size_t bytes, unsigned flags) = nullptr;
  Code (*free_host)(void* address) = nullptr;
  Code (*create_stream)(StreamHandle* stream, unsigned flags) = nullptr;
  Code (*destroy_stream)(StreamHandle stream) = nullptr;
  Code (*wait_for_stream)(StreamHandle stream) = nullptr;
  Code (*copy_to_device)(Address to, const void* from, size_t bytes, StreamHandle stream) = nullptr;
  Code (*copy_to_host)(void* to, Address from, size_t bytes, StreamHandle stream) = nullptr;
  Code (*copy_on_device)(Address to, Address from, size_t bytes, StreamHandle stream) = nullptr;
  Code (*fill)(Address to, unsigned char value, size_t bytes, StreamHandle stream) = nullptr;

  // A point in one stream that another waits for, or the host.
  Code (*create_event)(EventHandle* event, unsigned flags) = nullptr;
  Code (*destroy_event)(EventHandle event) = nullptr;
  Code (*record_event)(EventHandle event, StreamHandle stream) = nullptr;
  Code (*wait_for_event)(StreamHandle stream, EventHandle event, unsigned flags) = nullptr;
  Code (*wait_on_host)(EventHandle event) = nullptr;

  // Graphs: what is enqueued on a stream between begin and end is not done, but becomes a template.
  Code (*begin_capture)(StreamHandle stream, int mode) = nullptr;
  Code (*end_capture)(StreamHandle stream, GraphTemplateHandle* captured) = nullptr;
  Code (*instantiate_graph)(GraphHandle* graph, GraphTemplateHandle from, unsigned long long flags) = nullptr;
  Code (*launch_graph)(GraphHandle graph, StreamHandle stream) = nullptr;
  Code (*destroy_graph)(GraphHandle graph) = nullptr;
  Code (*destroy_graph_template)(GraphTemplateHandle captured) = nullptr;

  // cuBLASLt beside it, loaded now; null where there is none.
  std::shared_ptr<const Blas> (*load_blas)() = nullptr;
};

constexpr Code success = 0, error_out_of_memory = 2, error_not_initialized = 3, error_no_device = 100,
               error_launch_failed = 719;
constexpr int attribute_compute_major = 75, attribute_compute_minor = 76;  // of device_attribute
constexpr unsigned stream_non_blocking = 1, event_without_time = 2;
constexpr int capture_this_thread = 1;                           // other threads may call whatever they like meanwhile
constexpr int least_driver_version = 13000, least_compute = 75;  // what the kernels are compiled with and for
constexpr int least_compute_of_tensors = 80;                     // of the kernels that multiply on tensor cores

// What libcuda.so.1, or the library of that name or path, offers, ready to be used. NO_DRIVER, DRIVER_TOO_OLD or
// NO_DEVICE.
Result<std::shared_ptr<const Driver>> load_driver(const std::string& library = "libcuda.so.1");
// Any table, looked at and initialised in the same way.
Status start_driver(const Driver& driver);

// An error of the driver as a status: DEVICE_MEMORY, DEVICE_LOST, …, or INTERNAL for what our own calls should not
// bring about. `what` was being done.
Status status_of(const Driver& driver, Code code, std::string_view what);

}  // namespace finermoe::cuda
