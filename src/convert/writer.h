// The streaming writer of safetensors checkpoints: tensors are made block by block, in parallel, into one buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "convert/convert.h"
#include "convert/staging.h"

namespace finermoe {

// Tensors are made in blocks of this many elements, each by itself: what a block holds depends on neither the buffer's
// size nor the number of threads.
constexpr uint64_t block_elements = 65536;

// A tensor that will be written.
struct PlannedTensor {
  std::string name;
  DType dtype = DType::f32;
  uint64_t rows = 0, columns = 0;  // columns 0: a vector
  // Makes the elements [begin, end) in row-major order; begin is a multiple of block_elements. Called on any thread.
  std::function<void(uint64_t begin, uint64_t end, std::byte* out)> fill;
  // Called once on the writing thread, before the first fill; may be empty.
  std::function<Status(ThreadPool&)> prepare;

  uint64_t elements() const { return rows * (columns ? columns : 1); }
  uint64_t bytes() const { return elements() * size_of(dtype); }
};

struct PlannedText {
  std::string name, content;
};

struct PlannedCheckpoint {
  std::vector<PlannedTensor> tensors;
  std::vector<PlannedText> texts;  // beside config.json
  std::string config_json;
  std::function<Status()> check_source;  // before each buffer: are the mapped files whole? May be empty.
};

// Into a place that Staging::plan has found free.
Status write_checkpoint(Staging staging, const PlannedCheckpoint& checkpoint, const WriterOptions& options);

}  // namespace finermoe
