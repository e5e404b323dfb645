// NVIDIA's driver, emulated: memory is the host's, streams are queues that are worked off when somebody waits for them,
// kernels run as block.h says. A graph has what was enqueued on a stream, with its arguments; memory is read when it is
// launched.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "block.h"
#include "cuda/blas.h"
#include "cuda/driver.h"

namespace emulated {

// One device, "emulated".
std::shared_ptr<const finermoe::cuda::Driver> driver();

// What a test may look at and change; of the whole process.
struct Settings {
  uint64_t memory = uint64_t{16} << 30;  // bytes of the device
  int n_devices = 1, driver_version = 13000, compute_major = 9, compute_minor = 0;
  // Of init(), allocate_host() and instantiate_graph()
  finermoe::cuda::Code init_answers = 0, pinned_answers = 0, graph_answers = 0;
  uint64_t calls_until_failure = 0;  // of calls in a context; the last of them finds no memory. 0: none does
  bool has_blas = false;             // cuBLASLt
  finermoe::cuda::Blas::Status product_answers = 0;  // of its multiply()
  std::optional<Order> order = {};                   // of all launches; otherwise each launch has the next
};
Settings& settings();
// How often something was enqueued, by itself or as a graph, and how many graphs were made.
struct Calls {
  uint64_t kernels = 0, copies = 0, waits = 0, graphs = 0, graphs_made = 0;
  bool operator==(const Calls&) const = default;
};
Calls calls();
uint64_t n_host_waits();  // for a stream
size_t n_graphs();        // that exist, templates too
// Of cuBLASLt: handles, products, layouts and preferences that were made and not destroyed, and products computed ever.
int n_blas_objects();
int n_blas_products();
uint64_t allocated();     // bytes of the device
int n_contexts();         // retained and not released
int n_contexts_made();    // ever
void* current_context();  // of this thread
void push_context(void* context);
void pop_context();
// After a fault, or once the device is lost, every call fails, as on a device, until forget_faults().
void lose_device();
void forget_faults();
std::string last_fault();

}  // namespace emulated
