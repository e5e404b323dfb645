// What a device with memory of its own takes of a model.
#pragma once

#include "base/function_ref.h"
#include "format/tensor_table.h"

namespace finermoe {

// The final norm and the head, the last layers, and the routed experts of the last MoE layers among these; the
// embedding, if all layers are there. Experts come last: a token reads few of them.
struct DeviceShare {
  uint64_t weights = 0;  // bytes that they take there
  uint64_t stored = 0;   // in the checkpoint
  uint64_t routed = 0;   // of these, of routed experts
  size_t n_layers = 0;   // at least 1
  size_t n_moe_layers = 0;
  uint64_t bytes_per_token = 0;  // of these weights, what decoding one token reads

  // The largest that takes at most `limit` bytes, or, if that is impossible, the smallest. Beside their weights n
  // layers take bytes_of_layers(n).
  static DeviceShare within(const Config& config, uint64_t limit, FunctionRef<uint64_t(size_t n)> bytes_of_layers);
};

// A tensor's bytes in the checkpoint, and those that decoding one token reads. For experts, all of which have one size,
// the first one of a layer stands for all that are chosen.
uint64_t stored_bytes(const Config& config, const TensorSpec& spec);
uint64_t read_per_token(const Config& config, const TensorSpec& spec);

}  // namespace finermoe
