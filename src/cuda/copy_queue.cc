#include "cuda/copy_queue.h"

#include <algorithm>

namespace finermoe::cuda {

Result<std::unique_ptr<CudaCopyQueue>> CudaCopyQueue::make(const std::shared_ptr<const Context>& context,
                                                           std::shared_ptr<MemoryAccount> account) {
  FM_ASSIGN(Stream stream, Stream::make(context));
  FM_ASSIGN(Memory memory,
            Memory::allocate(context, Memory::Where::host, bytes(), std::move(account), "copies to the device"));
  std::unique_ptr<CudaCopyQueue> queue(new CudaCopyQueue(context, std::move(stream), std::move(memory)));
  auto* const begin = reinterpret_cast<std::byte*>(queue->memory_.address());
  for (uint64_t i = 0; i < n_pieces; i++) {
    FM_ASSIGN(Event copied, Event::make(context));
    queue->pieces_.emplace_back(begin + i * piece_bytes, std::move(copied));
  }
  return queue;
}

CudaCopyQueue::~CudaCopyQueue() {
  context_->with([&] { return context_->driver().wait_for_stream(stream_.handle()); });
}

Status CudaCopyQueue::copy(std::span<const std::byte> from, DevicePtr<std::byte> to) {
  while (!from.empty()) {
    const size_t n = std::min<size_t>(from.size(), piece_bytes);
    const Code code = context_->with([&] { return copy_piece(from.first(n), to); });
    FM_TRY(context_->status(code, "copying to the device"));
    from = from.subspan(n);
    to = to + n;
  }
  return {};
}

// Threads that copy at once take turns at the pieces, and fill different ones.
Code CudaCopyQueue::copy_piece(std::span<const std::byte> from, DevicePtr<std::byte> to) {
  const Driver& driver = context_->driver();
  Piece& piece = pieces_[n_copied_++ % n_pieces];
  const std::lock_guard lock(piece.mutex);
  Code code = driver.wait_on_host(piece.copied.handle());
  if (code != success) return code;
  std::copy(from.begin(), from.end(), piece.memory);
  code = driver.copy_to_device(to.number(), piece.memory, from.size(), stream_.handle());
  return code == success ? driver.record_event(piece.copied.handle(), stream_.handle()) : code;
}

Code CudaCopyQueue::make_wait(StreamHandle stream, const Event& event) const {
  const Driver& driver = context_->driver();
  const Code code = driver.record_event(event.handle(), stream_.handle());
  return code == success ? driver.wait_for_event(stream, event.handle(), 0) : code;
}

}  // namespace finermoe::cuda
