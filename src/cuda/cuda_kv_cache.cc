#include "cuda/cuda_kv_cache.h"

#include <cstring>
#include <vector>

#include "base/saturating.h"

namespace finermoe::cuda {
namespace {

KvLayout layout_of(const KvShape& shape) { return {shape.dtype, shape.head_size, shape.capacity}; }

uint64_t bytes_of_heads(const KvShape& shape) {
  return saturating_product(shape.n_heads(), layout_of(shape).head_bytes());
}

}  // namespace

CudaKvCache::CudaKvCache(std::shared_ptr<const Context> context, const KvShape& shape, Memory memory)
    : KvCache(shape), context_(std::move(context)), layout_(layout_of(shape)), memory_(std::move(memory)) {}

uint64_t CudaKvCache::bytes(const KvShape& shape) {
  // More than any device has, counted without overflow.
  const uint64_t most = uint64_t{1} << 56;
  if (saturating_product(shape.capacity, saturating_product(shape.head_size, 8)) > most) return UINT64_MAX;
  return saturating_sum(bytes_of_heads(shape), shape.head_size * sizeof(float));
}

Result<std::unique_ptr<CudaKvCache>> CudaKvCache::make(std::shared_ptr<const Context> context, const KvShape& shape,
                                                       std::shared_ptr<MemoryAccount> account, std::string_view what) {
  FM_ASSIGN(Memory memory, Memory::allocate(context, Memory::Where::device, bytes(shape), std::move(account), what));
  return std::unique_ptr<CudaKvCache>(new CudaKvCache(std::move(context), shape, std::move(memory)));
}

Status CudaKvCache::copy_prefix(const KvCache& from, size_t n) {
  const auto& source = static_cast<const CudaKvCache&>(from);
  if (n == 0) return {};
  const Driver& driver = context_->driver();
  return context_->run("copying a cache", [&](StreamHandle stream) {
    Code code = success;
    for (uint64_t head = 0; head < shape().n_heads() && code == success; head++) {
      code = driver.copy_on_device(vectors_at(head, 0), source.vectors_at(head, 0), n * layout_.vector_bytes(), stream);
      if (code != success || layout_.scale_bytes() == 0) continue;
      code = driver.copy_on_device(scales_at(head, 0), source.scales_at(head, 0), n * layout_.scale_bytes(), stream);
    }
    return code;
  });
}

Status CudaKvCache::move_down(size_t begin, size_t end, size_t n, const Rope& rope) {
  const uint64_t half = shape().head_size / 2;
  std::vector<float> angles(2 * half);
  rope.turns_back(shape().head_size, n, std::span(angles).first(half), std::span(angles).last(half));
  const Address place = memory_.address() + bytes_of_heads(shape());
  const auto* const on_device = reinterpret_cast<const float*>(static_cast<uintptr_t>(place));
  const MoveDown task{.cache = view(),
                      .n_layers = static_cast<uint32_t>(shape().n_layers),
                      .n_kv_heads = static_cast<uint32_t>(shape().n_kv_heads),
                      .begin = static_cast<uint32_t>(begin),
                      .end = static_cast<uint32_t>(end),
                      .by = static_cast<uint32_t>(n),
                      .cos = on_device,
                      .sin = on_device + half};
  return context_->run("moving a cache", [&](StreamHandle stream) {
    const Code code = context_->driver().copy_to_device(place, angles.data(), angles.size() * sizeof(float), stream);
    return code == success ? enqueue_move_down(stream, task) : code;
  });
}

Status CudaKvCache::read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const {
  if (layout_.dtype != DType::q8) return context_->download(vectors.data(), vectors_at(head, begin), vectors.size());
  const size_t of_codes = layout_.vector_bytes(), of_scales = layout_.scale_bytes();
  std::vector<std::byte> codes(n * of_codes), scales(n * of_scales);
  FM_TRY(context_->download(codes.data(), vectors_at(head, begin), codes.size()));
  FM_TRY(context_->download(scales.data(), scales_at(head, begin), scales.size()));
  for (size_t i = 0; i < n; i++) {
    std::byte* const to = vectors.data() + i * (of_scales + of_codes);
    std::memcpy(to, &scales[i * of_scales], of_scales);
    std::memcpy(to + of_scales, &codes[i * of_codes], of_codes);
  }
  return {};
}

Status CudaKvCache::write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) {
  if (layout_.dtype != DType::q8) return context_->upload(vectors_at(head, begin), vectors.data(), vectors.size());
  const size_t of_codes = layout_.vector_bytes(), of_scales = layout_.scale_bytes();
  std::vector<std::byte> codes(n * of_codes), scales(n * of_scales);
  for (size_t i = 0; i < n; i++) {
    const std::byte* const from = vectors.data() + i * (of_scales + of_codes);
    std::memcpy(&scales[i * of_scales], from, of_scales);
    std::memcpy(&codes[i * of_codes], from + of_scales, of_codes);
  }
  FM_TRY(context_->upload(vectors_at(head, begin), codes.data(), codes.size()));
  return context_->upload(scales_at(head, begin), scales.data(), scales.size());
}

}  // namespace finermoe::cuda
