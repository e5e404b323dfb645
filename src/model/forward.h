// The forward pass: from rows of (session, position, token) to logits.
#pragma once

#include <span>

#include "base/function_ref.h"
#include "model/scratch.h"

namespace finermoe {

// What the forward pass asks, and where it tells what it sees.
struct ForwardHooks {
  // Before each layer: anything but ok stops the pass and is returned.
  FunctionRef<Status()> go_on;
  // Of each MoE layer, in their order: where its route goes on the host when the pass is done. Empty: nowhere.
  std::span<const HostRoute> routes = {};
};

// What a pass gives of some of its rows, on the host.
struct Readout {
  // Some of the read-out rows [begin, end): their logits [end - begin, vocab].
  using LogitsBlock = FunctionRef<void(size_t begin, size_t end, const float* logits)>;

  std::span<const size_t> rows = {};          // indices into the batch, ascending
  float* hidden = nullptr;                    // [rows, h] after the last norm, or null: not wanted
  float* logits = nullptr;                    // [rows, vocab], or null: not computed
  const LogitsBlock* logits_block = nullptr;  // told the logits of logits_block_rows at a time, for which `logits`
  size_t logits_block_rows = 0;               //   has room, where not all can be held at once
};

// Computes all rows, and writes their keys and values into the caches. NOT_FINITE for a router logit that is not
// finite: then scratch.main().row_error() tells which rows failed, and what was read out is worth nothing.
Status forward(const Model& model, const RaggedBatch& batch, Precision precision, const Readout& readout,
               Scratch& scratch, const ForwardHooks& hooks);

}  // namespace finermoe
