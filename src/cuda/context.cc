#include "cuda/context.h"

#include <utility>

namespace finermoe::cuda {

Result<std::shared_ptr<const Context>> Context::open(std::shared_ptr<const Driver> driver, DeviceHandle device) {
  int major = 0, minor = 0;
  Code code = driver->device_attribute(&major, attribute_compute_major, device);
  if (code == success) code = driver->device_attribute(&minor, attribute_compute_minor, device);
  FM_TRY(status_of(*driver, code, "querying the compute capability"));
  if (major * 10 + minor < least_compute) {
    return Status(
        FINERMOE_ERROR_UNSUPPORTED,
        format_text("the device is too old: it has compute capability ", major, ".", minor, "; at least 7.5 is needed"),
        "7.5", format_text(major, ".", minor));
  }
  ContextHandle handle = nullptr;
  FM_TRY(status_of(*driver, driver->retain_context(&handle, device), "retaining the context"));
  const std::shared_ptr<Context> context(new Context(std::move(driver), device, major * 10 + minor, handle));
  FM_TRY(context->status(
      context->with([&] { return context->driver_->create_stream(&context->stream_, stream_non_blocking); }),
      "creating a stream"));
  return std::shared_ptr<const Context>(context);
}

Context::~Context() {
  if (mark_.is_inherited()) {
    static_cast<void>(blas_.release());
    return;
  }
  with([&] {
    blas_.reset();
    return stream_ == nullptr ? success : driver_->destroy_stream(stream_);
  });
  driver_->release_context(device_);
}

const BlasLibrary* Context::blas() const {
  std::call_once(blas_asked_, [&] {
    with([&] {
      blas_ = BlasLibrary::start(driver_->load_blas());
      return success;
    });
  });
  return blas_.get();
}

Status Context::upload(Address to, const void* from, size_t bytes) const {
  if (bytes == 0) return {};
  return run("copying to the device", [&](StreamHandle s) { return driver_->copy_to_device(to, from, bytes, s); });
}
Status Context::download(void* to, Address from, size_t bytes) const {
  if (bytes == 0) return {};
  return run("copying to the host", [&](StreamHandle s) { return driver_->copy_to_host(to, from, bytes, s); });
}
Status Context::copy(Address to, Address from, size_t bytes) const {
  if (bytes == 0) return {};
  return run("copying on the device", [&](StreamHandle s) { return driver_->copy_on_device(to, from, bytes, s); });
}
Status Context::set_zero(Address to, size_t bytes) const {
  if (bytes == 0) return {};
  return run("filling memory", [&](StreamHandle s) { return driver_->fill(to, 0, bytes, s); });
}

Result<Memory> Memory::allocate(std::shared_ptr<const Context> context, Where where, uint64_t bytes,
                                std::shared_ptr<MemoryAccount> account, std::string_view what) {
  FM_TRY(account->reserve(bytes, what));
  Memory memory;
  memory.account_ = std::move(account);
  memory.size_ = bytes;
  if (bytes == 0) return memory;
  memory.where_ = where;
  const Driver& driver = context->driver();
  const Code answer = context->with([&] {
    if (where == Where::host) {
      void* address = nullptr;
      const Code code = driver.allocate_host(&address, bytes, 0);
      memory.address_ = reinterpret_cast<uintptr_t>(address);
      return code;
    }
    Address address = 0;
    const Code code = driver.allocate(&address, bytes);
    memory.address_ = static_cast<uintptr_t>(address);
    return code;
  });
  const std::string wanted = format_text("allocating ", bytes, " bytes for ", what);
  if (where == Where::host && answer == error_out_of_memory) {
    return Status(FINERMOE_ERROR_OUT_OF_MEMORY, format_text("the system refused pinned memory: ", wanted));
  }
  FM_TRY(context->status(answer, wanted));
  memory.context_ = std::move(context);
  if (where == Where::device) FM_TRY(memory.context_->set_zero(memory.address_, bytes));
  return memory;
}

Memory::~Memory() {
  if (context_ != nullptr && address_ != 0) {
    const Driver& driver = context_->driver();
    context_->with([&] {
      return where_ == Where::host ? driver.free_host(reinterpret_cast<void*>(address_)) : driver.free(address_);
    });
  }
  if (account_ != nullptr) account_->release(size_);
}

void Memory::swap(Memory& other) noexcept {
  std::swap(context_, other.context_);
  std::swap(where_, other.where_);
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  std::swap(account_, other.account_);
}

}  // namespace finermoe::cuda
