// The forward pass: from rows of (session, position, token) to logits.
#pragma once

#include <span>

#include "base/function_ref.h"
#include "model/scratch.h"

namespace finermoe {

// Hooks by which the forward pass asks whether to go on, and reports routes.
struct ForwardHooks {
  // Called before each layer; anything but ok stops the pass and is returned.
  FunctionRef<Status()> go_on;
  // For each MoE layer, in order: where to copy its route on the host when the pass is done. Empty: nowhere.
  std::span<const HostRoute> routes = {};
};

// What a pass returns to the host for some of its rows.
struct Readout {
  // Some of the read-out rows [begin, end): their logits [end - begin, vocab].
  using LogitsBlock = FunctionRef<void(size_t begin, size_t end, const float* logits)>;

  std::span<const size_t> rows = {};          // indices into the batch, ascending
  float* hidden = nullptr;                    // [rows, h] after the final norm, or null: not wanted
  float* logits = nullptr;                    // [rows, vocab], or null: not computed
  const LogitsBlock* logits_block = nullptr;  // called with the logits of logits_block_rows rows at a time, for which
  size_t logits_block_rows = 0;               //   `logits` has room, if they cannot all be held at once

  // Tokens that the device may choose, one for each of `rows`, among the ids below n_choosable: logits then come only
  // of rows whose id is -1.
  std::span<const TokenChoice> choices = {};
  uint64_t n_choosable = 0;
  ChosenToken* chosen = nullptr;  // [choices]
  // More choices than rows, of a batch of one row that is read out: as many passes follow each other, each over the
  // token chosen in the one before (Backend::most_passes). From the first id of -1 on they have not been computed; the
  // first one is only left to the host as it is with one choice.
  size_t n_passes() const { return rows.size() == 1 && choices.size() > 1 ? choices.size() : 1; }
};

// Computes all rows, and writes their keys and values into the caches. NOT_FINITE for a non-finite router logit: then
// scratch.row_error() tells which rows failed, and what was read out is meaningless.
Status forward(const Model& model, const RaggedBatch& batch, Precision precision, const Readout& readout,
               Scratch& scratch, const ForwardHooks& hooks);

}  // namespace finermoe
