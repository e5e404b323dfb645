// Copies to the device on a stream of their own, by way of pinned memory.
#pragma once

#include <atomic>
#include <deque>

#include "backend/backend.h"
#include "cuda/context.h"

namespace finermoe::cuda {

class CudaCopyQueue final : public CopyQueue {
 public:
  // Of the pinned memory: one piece is filled while others are on the bus.
  static constexpr uint64_t piece_bytes = 1 << 20, n_pieces = 4;
  static constexpr uint64_t bytes() { return n_pieces * piece_bytes; }  // of the host

  static Result<std::unique_ptr<CudaCopyQueue>> make(const std::shared_ptr<const Context>& context,
                                                     std::shared_ptr<MemoryAccount> account);
  ~CudaCopyQueue() override;
  // The host waits only while all pieces are in use.
  Status copy(std::span<const std::byte> from, DevicePtr<std::byte> to) override;
  // Makes a stream of the current context wait for what the queue has been given. The event may be one that is still
  // waited for.
  Code make_wait(StreamHandle stream, const Event& event) const;

 private:
  struct Piece {
    Piece(std::byte* at, Event event) : memory(at), copied(std::move(event)) {}
    std::byte* const memory;
    const Event copied;  // the last copy out of it is done
    std::mutex mutex;    // of whoever fills it
  };
  CudaCopyQueue(std::shared_ptr<const Context> context, Stream stream, Memory memory)
      : context_(std::move(context)), stream_(std::move(stream)), memory_(std::move(memory)) {}

  Code copy_piece(std::span<const std::byte> from, DevicePtr<std::byte> to);

  const std::shared_ptr<const Context> context_;
  const Stream stream_;
  const Memory memory_;
  std::deque<Piece> pieces_;
  std::atomic<uint64_t> n_copied_{0};  // pieces ever: whose turn it is
};

}  // namespace finermoe::cuda
