// The streaming writer of safetensors checkpoints: tensors are produced part by part, in parallel, into one buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "base/thread_pool.h"
#include "convert/convert.h"
#include "convert/staging.h"

namespace finermoe {

// Tensors are produced in independent parts of this many elements: the contents of a part depend on neither the buffer
// size nor the number of threads.
constexpr uint64_t part_elements = 65536;

// A tensor to be written.
struct PlannedTensor {
  std::string name;
  DType dtype = DType::f32;
  uint64_t rows = 0, columns = 0;  // columns 0: a vector
  // Produces the items [begin, end): elements in row-major order, or blocks of a block format in theirs. begin is a
  // multiple of part_items(). Called on any thread.
  std::function<void(uint64_t begin, uint64_t end, std::byte* out)> fill;
  // Called once on the writing thread, before the first fill; may be empty.
  std::function<Status(ThreadPool&)> prepare;

  uint64_t items() const {
    return is_blocked(dtype) ? panels_of(rows) * blocks_of(columns) : rows * (columns ? columns : 1);
  }
  uint64_t item_bytes() const { return is_blocked(dtype) ? block_bytes(dtype) : size_of(dtype); }
  uint64_t part_items() const { return part_elements / (is_blocked(dtype) ? panel_rows * block_columns : 1); }
  uint64_t bytes() const { return items() * item_bytes(); }
};

struct PlannedText {
  std::string name, content;
};

struct PlannedCheckpoint {
  std::vector<PlannedTensor> tensors;
  std::vector<PlannedText> texts;  // beside config.json
  std::string config_json;
  // Called before and after a buffer is filled: fails if the mapped files have changed, or if something could not be
  // produced. May be empty.
  std::function<Status()> check;
};

// Writes to the destination that Staging::plan has checked.
Status write_checkpoint(Staging staging, const PlannedCheckpoint& checkpoint, const WriterOptions& options);

}  // namespace finermoe
