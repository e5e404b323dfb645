// One device in use: its primary context, and what is made in it.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/allocation.h"
#include "base/process_mark.h"
#include "cuda/blas_products.h"
#include "cuda/driver.h"

namespace finermoe::cuda {

// Thread-safe. Each function makes the context current only while it runs.
class Context : public std::enable_shared_from_this<Context> {
 public:
  // Retains the primary context of a device; UNSUPPORTED for a device that the kernels are not compiled for.
  static Result<std::shared_ptr<const Context>> open(std::shared_ptr<const Driver> driver, DeviceHandle device);
  ~Context();
  Context(const Context&) = delete;

  const Driver& driver() const { return *driver_; }
  // That multiply BF16 and F16 with sums in float32, as our kernels need.
  bool has_tensor_cores() const { return compute_ >= least_compute_of_tensors; }

  // Calls a function that returns a code of the driver, with the context current. In a child of fork(), where the
  // driver does not work and may wait for ever, nothing is called: what was inherited is freed with the process.
  template <class Call>
  Code with(const Call& call) const {
    if (mark_.is_inherited()) return error_not_initialized;
    const Code pushed = driver_->push_context(context_);
    if (pushed != success) return pushed;
    struct Pop {  // whatever happens
      const Driver& driver;
      ~Pop() {
        ContextHandle popped = nullptr;
        driver.pop_context(&popped);
      }
    } const pop{*driver_};
    return call();
  }
  // cuBLASLt, started when it is first asked for; null where it is not to be had.
  const BlasLibrary* blas() const;
  Status status(Code code, std::string_view what) const { return status_of(*driver_, code, what); }

  // Complete when they return; one at a time, on the context's own stream.
  Status upload(Address to, const void* from, size_t bytes) const;
  Status download(void* to, Address from, size_t bytes) const;
  Status copy(Address to, Address from, size_t bytes) const;
  Status set_zero(Address to, size_t bytes) const;
  // Enqueues something on that stream, `enqueue(stream)`, and waits for it.
  template <class Enqueue>
  Status run(std::string_view what, const Enqueue& enqueue) const {
    const std::lock_guard lock(mutex_);
    return status(with([&] {
                    const Code code = enqueue(stream_);
                    return code == success ? driver_->wait_for_stream(stream_) : code;
                  }),
                  what);
  }

 private:
  Context(std::shared_ptr<const Driver> driver, DeviceHandle device, int compute, ContextHandle context)
      : driver_(std::move(driver)), device_(device), compute_(compute), context_(context) {}

  const std::shared_ptr<const Driver> driver_;
  const DeviceHandle device_;
  const int compute_;  // capability: 75 for 7.5
  const ContextHandle context_;
  const ProcessMark mark_;
  StreamHandle stream_ = nullptr;
  mutable std::mutex mutex_;  // of the stream
  mutable std::once_flag blas_asked_;
  mutable std::unique_ptr<const BlasLibrary> blas_;
};

// Memory of the device, or pinned memory of the host that it copies from and to. Charged to an account.
class Memory {
 public:
  enum class Where { device, host };
  Memory() = default;
  // `what` names it in an error. Memory of the device begins as zeros.
  static Result<Memory> allocate(std::shared_ptr<const Context> context, Where where, uint64_t bytes,
                                 std::shared_ptr<MemoryAccount> account, std::string_view what);
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Memory();
  uintptr_t address() const { return address_; }
  uint64_t size() const { return size_; }

 private:
  void swap(Memory& other) noexcept;
  std::shared_ptr<const Context> context_;
  Where where_ = Where::device;
  uintptr_t address_ = 0;
  uint64_t size_ = 0;
  std::shared_ptr<MemoryAccount> account_;
};

// What the driver makes in a context and has to be told to destroy.
template <class Kind>
class Made {
 public:
  static Result<Made> make(std::shared_ptr<const Context> context) {
    void* handle = nullptr;
    const Driver& driver = context->driver();
    FM_TRY(
        context->status(context->with([&] { return (driver.*Kind::create)(&handle, Kind::flags); }), Kind::creating));
    return Made(std::move(context), handle);
  }
  Made(Made&& other) noexcept : context_(std::move(other.context_)), handle_(std::exchange(other.handle_, nullptr)) {}
  Made& operator=(Made&&) = delete;
  ~Made() {
    if (handle_ != nullptr) context_->with([&] { return (context_->driver().*Kind::destroy)(handle_); });
  }
  void* handle() const { return handle_; }

 private:
  Made(std::shared_ptr<const Context> context, void* handle) : context_(std::move(context)), handle_(handle) {}
  std::shared_ptr<const Context> context_;
  void* handle_;
};

struct StreamKind {
  static constexpr auto create = &Driver::create_stream;
  static constexpr auto destroy = &Driver::destroy_stream;
  static constexpr unsigned flags = stream_non_blocking;
  static constexpr std::string_view creating = "creating a stream";
};
struct EventKind {
  static constexpr auto create = &Driver::create_event;
  static constexpr auto destroy = &Driver::destroy_event;
  static constexpr unsigned flags = event_without_time;
  static constexpr std::string_view creating = "creating an event";
};
using Stream = Made<StreamKind>;  // a non-blocking one
using Event = Made<EventKind>;    // a point in a stream, set again and again

}  // namespace finermoe::cuda
