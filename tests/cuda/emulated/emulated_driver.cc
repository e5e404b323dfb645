#include "emulated_driver.h"

#include "emulated_blas.h"
#include "emulated_machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace emulated {
namespace {

using finermoe::cuda::Address;
using finermoe::cuda::Code;
using finermoe::cuda::Driver;
using finermoe::cuda::error_launch_failed;
using finermoe::cuda::success;

constexpr Code error_invalid_value = 1, error_invalid_context = 201, error_capture_unsupported = 900,
               error_capture_invalidated = 901;
constexpr uint64_t page = 4096, alignment = 256;

bool is_child_of_fork() { return machine().process != 0 && machine().process != getpid(); }

char context_of_device;
std::vector<void*>& contexts() {
  if (is_child_of_fork()) std::abort();  // NVIDIA's driver may wait for ever there, which is hard to test
  thread_local std::vector<void*> own;
  return own;
}

// The stream that this thread captures.
Stream*& capturing() {
  thread_local Stream* stream = nullptr;
  return stream;
}

// What every call in a context begins with.
Code check() {
  if (contexts().empty() || contexts().back() == nullptr) return error_invalid_context;
  return machine().answer();
}
// And every call that a thread may not make while it captures.
Code check_not_capturing() {
  if (capturing() == nullptr) return check();
  capturing()->is_invalidated = true;
  return error_capture_unsupported;
}

// Works a queue off, or the first so many things that it has ever been asked for.
Code drain(Stream& stream, uint64_t n = UINT64_MAX) {
  const std::lock_guard lock(stream.mutex);
  while (!stream.queue.empty() && stream.n_done < n) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    stream.n_done++;
    if (machine().lost != success) continue;
    if (const Code code = work(); code != success) machine().lost = code;
  }
  return machine().lost;
}
Code enqueue(void* handle, uint64_t Calls::*which, Work work) {
  if (const Code code = check(); code != success) return code;
  if (handle == nullptr) return error_invalid_value;  // the default stream waits for the host's own work
  auto& stream = *static_cast<Stream*>(handle);
  const std::lock_guard lock(stream.mutex);
  if (stream.captured != nullptr) {
    stream.captured->push_back(std::move(work));
    return success;
  }
  stream.queue.push_back(std::move(work));
  stream.n_enqueued++;
  const std::unique_lock of_machine(machine().mutex);
  machine().calls.*which += 1;
  return success;
}
// Memory that is not pinned is read or written by the call itself: nothing that a graph could repeat.
Code check_pageable(void* handle) {
  auto& stream = *static_cast<Stream*>(handle);
  if (stream.captured == nullptr) return success;
  stream.is_invalidated = true;
  return error_capture_unsupported;
}
void drain_all() {
  std::vector<std::shared_ptr<Stream>> streams;  // another thread may destroy one meanwhile
  {
    const std::shared_lock lock(machine().mutex);
    for (const auto& [handle, stream] : machine().streams) streams.push_back(stream);
  }
  for (const auto& stream : streams) drain(*stream);
}

// Memory that ends where a page begins which nobody may touch.
Code map(std::map<uintptr_t, Allocation>& allocations, size_t bytes, uintptr_t* address) {
  const uint64_t used = (bytes + alignment - 1) / alignment * alignment;
  const uint64_t mapped = (used + page - 1) / page * page + page;
  void* const mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return finermoe::cuda::error_out_of_memory;
  auto* const guard = static_cast<char*>(mapping) + mapped - page;
  mprotect(guard, page, PROT_NONE);
  *address = reinterpret_cast<uintptr_t>(guard) - used;
  const std::unique_lock lock(machine().mutex);
  allocations[*address] = {bytes, mapping, mapped};
  return success;
}
Code unmap(std::map<uintptr_t, Allocation>& allocations, uintptr_t address, uint64_t* bytes) {
  Allocation allocation{};
  {
    const std::unique_lock lock(machine().mutex);
    const auto found = allocations.find(address);
    if (found == allocations.end()) return error_invalid_value;
    allocation = found->second;
    allocations.erase(found);
    n_allocations_gone++;
  }
  *bytes = allocation.bytes;
  munmap(allocation.mapping, allocation.mapped);
  return success;
}
// The allocation that has all of these bytes, as [begin, end); empty where none has.
std::pair<uintptr_t, uintptr_t> find(const std::map<uintptr_t, Allocation>& allocations, uintptr_t address,
                                     uint64_t bytes) {
  const std::shared_lock lock(machine().mutex);
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return {};
  --after;
  const uintptr_t end = after->first + after->second.bytes;
  return address + bytes <= end ? std::pair{after->first, end} : std::pair<uintptr_t, uintptr_t>{};
}
bool is_in(const std::map<uintptr_t, Allocation>& allocations, const void* address, uint64_t bytes) {
  return find(allocations, reinterpret_cast<uintptr_t>(address), bytes).second != 0;
}
void* pointer(Address address) { return reinterpret_cast<void*>(static_cast<uintptr_t>(address)); }

Code allocate(Address* address, size_t bytes) {
  if (const Code code = check_not_capturing(); code != success) return code;
  {
    const std::unique_lock lock(machine().mutex);
    if (machine().allocated + bytes > machine().settings.memory) return finermoe::cuda::error_out_of_memory;
    machine().allocated += bytes;
  }
  uintptr_t mapped = 0;
  const Code code = map(machine().device, bytes, &mapped);
  *address = mapped;
  if (code == success) std::memset(pointer(mapped), 0xff, bytes);  // not zeros: NaN, for one thing
  return code;
}

// Reads when its turn comes.
Code enqueue_copy(void* stream, void* to, const void* from, size_t bytes) {
  return enqueue(stream, &Calls::copies, [=] {
    std::memcpy(to, from, bytes);
    return success;
  });
}
Code copy_to_device(Address to, const void* from, size_t bytes, void* stream) {
  if (!is_in(machine().device, pointer(to), bytes)) return error_invalid_value;
  if (is_in(machine().pinned, from, bytes)) return enqueue_copy(stream, pointer(to), from, bytes);
  const auto* const first = static_cast<const char*>(from);
  if (const Code code = check_pageable(stream); code != success) return code;
  return enqueue(stream, &Calls::copies, [to, copy = std::vector<char>(first, first + bytes)] {
    std::memcpy(pointer(to), copy.data(), copy.size());
    return success;
  });
}
Code copy_to_host(void* to, Address from, size_t bytes, void* stream) {
  if (!is_in(machine().device, pointer(from), bytes)) return error_invalid_value;
  const bool is_pinned = is_in(machine().pinned, to, bytes);
  if (const Code code = is_pinned ? success : check_pageable(stream); code != success) return code;
  const Code code = enqueue_copy(stream, to, pointer(from), bytes);
  if (code != success || is_pinned) return code;
  return drain(*static_cast<Stream*>(stream));  // the driver waits, too
}
Code copy_on_device(Address to, Address from, size_t bytes, void* stream) {
  if (!is_in(machine().device, pointer(from), bytes) || !is_in(machine().device, pointer(to), bytes)) {
    return error_invalid_value;
  }
  return enqueue_copy(stream, pointer(to), pointer(from), bytes);
}
Code fill(Address to, unsigned char value, size_t bytes, void* stream) {
  if (!is_in(machine().device, pointer(to), bytes)) return error_invalid_value;
  return enqueue(stream, &Calls::copies, [=] {
    std::memset(pointer(to), value, bytes);
    return success;
  });
}

Code create_stream(void** handle, unsigned flags) {
  if (const Code code = check(); code != success) return code;
  if (flags != finermoe::cuda::stream_non_blocking) return error_invalid_value;
  auto stream = std::make_shared<Stream>();
  *handle = stream.get();
  const std::unique_lock lock(machine().mutex);
  machine().streams.emplace(stream.get(), std::move(stream));
  return success;
}
Code destroy_stream(void* handle) {
  std::shared_ptr<Stream> stream;
  {
    const std::unique_lock lock(machine().mutex);
    const auto found = machine().streams.find(static_cast<Stream*>(handle));
    if (found == machine().streams.end()) return error_invalid_value;
    stream = std::move(found->second);
    machine().streams.erase(found);
  }
  drain(*stream);
  return check();
}

Code create_event(void** handle, unsigned flags) {
  if (const Code code = check(); code != success) return code;
  if (flags != finermoe::cuda::event_without_time) return error_invalid_value;
  auto event = std::make_unique<Event>();
  *handle = event.get();
  const std::unique_lock lock(machine().mutex);
  machine().events.emplace(event.get(), std::move(event));
  return success;
}
Code destroy_event(void* handle) {
  const std::unique_lock lock(machine().mutex);
  return machine().events.erase(static_cast<Event*>(handle)) == 1 ? success : error_invalid_value;
}
Code record_event(void* handle, void* recorded) {
  if (const Code code = check_not_capturing(); code != success) return code;
  auto& stream = *static_cast<Stream*>(recorded);
  const std::lock_guard lock(stream.mutex);
  const std::unique_lock of_machine(machine().mutex);
  *static_cast<Event*>(handle) = {machine().streams.at(&stream), stream.n_enqueued};
  return success;
}
// What the event has now: it may be recorded again.
Event recorded(void* handle) {
  const std::shared_lock lock(machine().mutex);
  return *static_cast<Event*>(handle);
}
Code wait_for_event(void* stream, void* handle, unsigned flags) {
  if (flags != 0) return error_invalid_value;
  const Event event = recorded(handle);
  if (event.stream == nullptr) return success;
  return enqueue(stream, &Calls::waits, [event] { return drain(*event.stream, event.n_enqueued); });
}

Code wait_on_host(void* handle) {
  if (const Code code = check_not_capturing(); code != success) return code;
  const Event event = recorded(handle);
  return event.stream == nullptr ? success : drain(*event.stream, event.n_enqueued);
}

Code begin_capture(void* handle, int mode) {
  if (const Code code = check_not_capturing(); code != success) return code;
  if (mode != finermoe::cuda::capture_this_thread) return error_invalid_value;
  auto& stream = *static_cast<Stream*>(handle);
  const std::lock_guard lock(stream.mutex);
  stream.captured = std::make_shared<Graph>();
  stream.is_invalidated = false;
  capturing() = &stream;
  return success;
}
Code end_capture(void* handle, void** captured) {
  *captured = nullptr;
  if (capturing() != handle) return error_invalid_value;
  auto& stream = *static_cast<Stream*>(handle);
  const std::lock_guard lock(stream.mutex);
  capturing() = nullptr;
  const auto graph = std::move(stream.captured);
  stream.captured.reset();
  if (stream.is_invalidated) return error_capture_invalidated;
  if (const Code code = check(); code != success) return code;
  const std::unique_lock of_machine(machine().mutex);
  machine().templates[graph.get()] = graph;
  *captured = graph.get();
  return success;
}
Code instantiate_graph(void** graph, void* from, unsigned long long flags) {
  if (const Code code = check(); code != success) return code;
  if (machine().settings.graph_answers != success) return machine().settings.graph_answers;
  const std::unique_lock lock(machine().mutex);
  const auto found = machine().templates.find(static_cast<Graph*>(from));
  if (found == machine().templates.end() || flags != 0) return error_invalid_value;
  auto own = std::make_shared<Graph>(*found->second);
  *graph = own.get();
  machine().graphs[own.get()] = std::move(own);
  machine().calls.graphs_made++;
  return success;
}
Code launch_graph(void* handle, void* stream) {
  std::shared_ptr<Graph> graph;
  {
    const std::shared_lock lock(machine().mutex);
    const auto found = machine().graphs.find(static_cast<Graph*>(handle));
    if (found == machine().graphs.end()) return error_invalid_value;
    graph = found->second;
  }
  return enqueue(stream, &Calls::graphs, [graph] {
    for (const Work& work : *graph) {
      if (const Code code = work(); code != success) return code;
    }
    return success;
  });
}
Code destroy(std::map<Graph*, std::shared_ptr<Graph>>& graphs, void* handle) {
  const std::unique_lock lock(machine().mutex);
  return graphs.erase(static_cast<Graph*>(handle)) == 1 ? success : error_invalid_value;
}

Code error_name(Code code, const char** name) {
  thread_local std::string text;
  text = code == finermoe::cuda::error_out_of_memory ? "CUDA_ERROR_OUT_OF_MEMORY"
         : code == error_launch_failed               ? "CUDA_ERROR_LAUNCH_FAILED: " + last_fault()
         : code == error_invalid_context             ? "CUDA_ERROR_INVALID_CONTEXT"
                                                     : "CUDA_ERROR_INVALID_VALUE";
  *name = text.c_str();
  return success;
}

void add_devices(Driver& driver) {
  driver.driver_version = [](int* version) {
    *version = machine().settings.driver_version;
    return success;
  };
  driver.init = [](unsigned) {
    if (is_child_of_fork()) return finermoe::cuda::error_not_initialized;
    machine().process = getpid();
    return machine().settings.init_answers;
  };
  driver.error_name = error_name;
  driver.device_count = [](int* count) {
    *count = machine().settings.n_devices;
    return success;
  };
  driver.device_get = [](int* device, int index) {
    *device = index;
    return index >= 0 && index < settings().n_devices ? success : 101;  // an index without a device
  };
  driver.device_name = [](char* name, int size, int) {
    std::strncpy(name, "emulated", static_cast<size_t>(size));
    return success;
  };
  driver.device_uuid = [](finermoe::cuda::Uuid* uuid, int device) {
    *uuid = {};
    uuid->bytes[15] = static_cast<unsigned char>(device);
    return success;
  };
  driver.device_memory = [](size_t* bytes, int) {
    *bytes = machine().settings.memory;
    return success;
  };
  driver.device_attribute = [](int* value, int attribute, int) {
    const Settings& settings = machine().settings;
    *value = attribute == finermoe::cuda::attribute_compute_major   ? settings.compute_major
             : attribute == finermoe::cuda::attribute_compute_minor ? settings.compute_minor
                                                                    : 0;
    return success;
  };
}

void add_contexts(Driver& driver) {
  driver.retain_context = [](void** context, int) {
    machine().n_contexts++;
    machine().n_contexts_made++;
    *context = &context_of_device;
    return success;
  };
  driver.release_context = [](int) {
    machine().n_contexts--;
    return success;
  };
  driver.push_context = [](void* context) {
    contexts().push_back(context);
    return success;
  };
  driver.pop_context = [](void** context) {
    if (contexts().empty()) return error_invalid_context;
    *context = contexts().back();
    contexts().pop_back();
    return success;
  };
}

void add_memory(Driver& driver) {
  driver.allocate = allocate;
  driver.free = [](Address address) {
    if (capturing() != nullptr) return check_not_capturing();
    drain_all();  // as the driver does
    uint64_t bytes = 0;
    const Code code = unmap(machine().device, static_cast<uintptr_t>(address), &bytes);
    const std::unique_lock lock(machine().mutex);
    machine().allocated -= bytes;
    return code;
  };
  driver.allocate_host = [](void** address, size_t bytes, unsigned) {
    if (const Code code = check_not_capturing(); code != success) return code;
    if (machine().settings.pinned_answers != success) return machine().settings.pinned_answers;
    uintptr_t mapped = 0;
    const Code code = map(machine().pinned, bytes, &mapped);
    *address = reinterpret_cast<void*>(mapped);
    return code;
  };
  driver.free_host = [](void* address) {
    drain_all();
    uint64_t bytes = 0;
    return unmap(machine().pinned, reinterpret_cast<uintptr_t>(address), &bytes);
  };
  driver.create_stream = create_stream;
  driver.destroy_stream = destroy_stream;
  driver.wait_for_stream = [](void* stream) {
    if (const Code code = check_not_capturing(); code != success) return code;
    machine().n_host_waits++;
    return drain(*static_cast<Stream*>(stream));
  };
  driver.copy_to_device = copy_to_device;
  driver.copy_to_host = copy_to_host;
  driver.copy_on_device = copy_on_device;
  driver.fill = fill;
  driver.load_blas = [] { return machine().settings.has_blas ? blas() : nullptr; };
}

void add_events(Driver& driver) {
  driver.create_event = create_event;
  driver.destroy_event = destroy_event;
  driver.record_event = record_event;
  driver.wait_for_event = wait_for_event;
  driver.wait_on_host = wait_on_host;
}

void add_graphs(Driver& driver) {
  driver.begin_capture = begin_capture;
  driver.end_capture = end_capture;
  driver.instantiate_graph = instantiate_graph;
  driver.launch_graph = launch_graph;
  driver.destroy_graph = [](void* graph) { return destroy(machine().graphs, graph); };
  driver.destroy_graph_template = [](void* captured) { return destroy(machine().templates, captured); };
}

}  // namespace

std::shared_ptr<const Driver> driver() {
  auto own = std::make_shared<Driver>();
  add_devices(*own);
  add_contexts(*own);
  add_memory(*own);
  add_events(*own);
  add_graphs(*own);
  return own;
}

int enqueue_kernel(void* stream, Dim3 grid, Dim3 block, std::function<void()> kernel) {
  return enqueue(stream, &Calls::kernels, [=, kernel = std::move(kernel)] {
    const Order order = machine().settings.order.value_or(static_cast<Order>(machine().n_launches++ % 3));
    const std::string wrong = run(grid, block, order, kernel);
    if (wrong.empty()) return success;
    const std::lock_guard lock(machine().fault_mutex);
    machine().fault = wrong;
    return error_launch_failed;
  });
}

constinit thread_local Allocated last_allocated;
constinit std::atomic<uint64_t> n_allocations_gone{0};

bool find_allocated(uintptr_t address, uint64_t bytes) {
  const uint64_t n_gone = n_allocations_gone.load(std::memory_order_relaxed);
  const auto [begin, end] = find(machine().device, address, bytes);
  last_allocated = {begin, end, n_gone};
  return end != 0;
}

Settings& settings() { return machine().settings; }
uint64_t allocated() {
  const std::shared_lock lock(machine().mutex);
  return machine().allocated;
}
Calls calls() {
  const std::shared_lock lock(machine().mutex);
  return machine().calls;
}
uint64_t n_host_waits() { return machine().n_host_waits; }
size_t n_graphs() {
  const std::shared_lock lock(machine().mutex);
  return machine().templates.size() + machine().graphs.size();
}
int n_contexts() { return machine().n_contexts; }
int n_contexts_made() { return machine().n_contexts_made; }
void* current_context() { return contexts().empty() ? nullptr : contexts().back(); }
void push_context(void* context) { contexts().push_back(context); }
void pop_context() { contexts().pop_back(); }
void lose_device() {
  const std::lock_guard lock(machine().fault_mutex);
  machine().fault = "a test has taken the device away";
  machine().lost = error_launch_failed;
}
void forget_faults() { machine().lost = success; }
std::string last_fault() {
  const std::lock_guard lock(machine().fault_mutex);
  return machine().fault;
}

}  // namespace emulated
