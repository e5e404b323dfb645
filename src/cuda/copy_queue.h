// Copies to the device on a stream of their own.
#pragma once

#include "backend/backend.h"
#include "cuda/context.h"

namespace finermoe::cuda {

class CudaCopyQueue final : public CopyQueue {
 public:
  static Result<std::unique_ptr<CudaCopyQueue>> make(const std::shared_ptr<const Context>& context) {
    FM_ASSIGN(Stream stream, Stream::make(context));
    return std::unique_ptr<CudaCopyQueue>(new CudaCopyQueue(context, std::move(stream)));
  }
  ~CudaCopyQueue() override {
    context_->with([&] { return context_->driver().wait_for_stream(stream_.handle()); });
  }
  // From memory that is not pinned the driver has read when this returns.
  Status copy(std::span<const std::byte> from, DevicePtr<std::byte> to) override {
    const Code code = context_->with(
        [&] { return context_->driver().copy_to_device(to.number(), from.data(), from.size(), stream_.handle()); });
    return context_->status(code, "copying to the device");
  }
  // Makes a stream of the current context wait for what the queue has been given. The event may be one that is still
  // waited for.
  Code make_wait(StreamHandle stream, const Event& event) const {
    const Driver& driver = context_->driver();
    const Code code = driver.record_event(event.handle(), stream_.handle());
    return code == success ? driver.wait_for_event(stream, event.handle(), 0) : code;
  }

 private:
  CudaCopyQueue(std::shared_ptr<const Context> context, Stream stream)
      : context_(std::move(context)), stream_(std::move(stream)) {}

  const std::shared_ptr<const Context> context_;
  const Stream stream_;
};

}  // namespace finermoe::cuda
