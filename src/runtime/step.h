// One pass over the weights for some tokens of some sessions.
#pragma once

#include <array>
#include <numeric>
#include <span>

#include "model/forward.h"
#include "runtime/exclusive_use.h"
#include "runtime/session.h"
#include "runtime/stop_signals.h"

namespace finermoe {

struct StepPart {
  Session* session;
  size_t n;                              // how many of its tokens not yet computed to compute
  std::span<const size_t> rows;          // ascending indices into these and the drafts: the rows to read out
  Status status = {};                    // out: the error of this part only
  std::span<const int32_t> drafts = {};  // tokens to compute behind the last one that the session holds
  size_t n_rows() const { return n + drafts.size(); }
};

constexpr size_t most_drafts = 64;  // of one part
// The rows of a token and of the drafts behind it.
constexpr auto rows_of_drafts = [] {
  std::array<size_t, most_drafts + 1> rows{};
  std::iota(rows.begin(), rows.end(), size_t{0});
  return rows;
}();

// Computes all parts together; after an error or a stop no session has more computed tokens than before. An error of
// some parts only (a non-finite router logit, a trace in use or without room) is also in their status; the other parts
// can be computed without them. With drafts, all rows have the bits that each would have in a pass of its own
// (LoadedModel::most_rows_as_alone).
// With more choices than the one row of a single part, the tokens that the device chose are computed too, as far as it
// chose any: behind those of the part, as drafts are.
// No two parts share a session, and all sessions have one precision. `readout` says what to read out of the rows of all
// parts, in the order of the parts; its own `rows` are set here.
Status run_step(LoadedModel& model, std::span<StepPart> parts, Readout readout, const StopSignals& stop);

}  // namespace finermoe
